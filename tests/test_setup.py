"""Set-up on machines that lack something (stand-ins for python3, java, apt-get), and the files that it reads."""

import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
TOOLS = ("sh", "dirname", "sed", "grep", "cat", "cksum", "date", "mkdir", "rm", "chmod", "pwd", "touch")
GOOD_JAVA = "#!/bin/sh\necho java.base@17.0.9\necho jdk.incubator.vector@17.0.9\n"
INSTALL = "apt-get install -y openjdk-17-jre-headless"


class Machine:
    """A checkout in a path with a space, and a PATH that holds only what the test puts there."""

    def __init__(self, folder: Path):
        self.checkout, self.bin = folder / "my checkout", folder / "bin"
        for name in ("setup", "lib"):
            (self.checkout / name).mkdir(parents=True)
        for name in ("setup/setup.sh", "requirements.lock", "pyproject.toml"):
            shutil.copy(ROOT / name, self.checkout / name)
        self.bin.mkdir()
        for tool in TOOLS:
            (self.bin / tool).symlink_to(shutil.which(tool) or pytest.fail(f"no {tool} here"))
        # A Python that runs, but cannot make environments: where set-up gets to it, it stops.
        self.has(
            "python3", f'[ "$1" = -c ] && exec "{sys.executable}" "$@"\n[ "$1" = --version ] && echo Python 3.11.7'
        )
        self.has("id", "echo 1000")

    def has(self, name: str, body: str) -> None:
        path = self.bin / name
        path.write_text(body if body.startswith("#!") else f"#!/bin/sh\n{body}\n", encoding="utf-8")
        path.chmod(0o755)

    def set_up(self, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.checkout / "setup" / "setup.sh")],
            env={"PATH": str(self.bin), "HOME": str(self.bin.parent), **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def test_an_old_python_is_named(machine):
    machine.has("python3", "[ $1 = --version ] && echo Python 3.9.2\nexit 1")
    done = machine.set_up()
    assert done.returncode == 2
    assert "Python 3.9.2" in done.stderr
    assert "make setup PYTHON=" in done.stderr


def test_the_python_asked_for_must_fit(machine):
    machine.has("mine", "exit 1")
    done = machine.set_up(PYTHON=str(machine.bin / "mine"))
    assert done.returncode == 2
    assert "is not a Python 3.11 or newer" in done.stderr


def test_without_java_and_not_root_one_command_is_printed_and_nothing_installed(machine):
    machine.has("apt-get", f'touch "{machine.bin}/called"; exit 1')
    done = machine.set_up()
    assert done.returncode == 2
    assert done.stderr.count("\n") == 2
    assert f"sudo {INSTALL}" in done.stderr
    assert not (machine.bin / "called").exists()


def test_root_on_debian_gets_java_installed_also_without_package_lists(machine):
    machine.has("id", "echo 0")
    (machine.bin / "java.good").write_text(GOOD_JAVA, encoding="utf-8")
    machine.has(
        "apt-get",
        f"""cd "{machine.bin}"; echo "$*" >>called
case "$1" in
    update) touch lists ;;
    install) [ -e lists ] || exit 100; cat java.good >java; chmod +x java ;;
esac""",
    )
    done = machine.set_up()
    calls = (machine.bin / "called").read_text(encoding="utf-8").splitlines()
    install = "install -y -q openjdk-17-jre-headless"
    assert calls == [install, "update -q", install]
    assert "making .venv" in done.stdout, "set-up went on to the environment"


@pytest.mark.parametrize("modules", ["java.base@11.0.1\njdk.incubator.vector@11.0.1", "java.base@17.0.1"])
def test_a_java_that_is_too_old_or_too_small_is_refused(machine, modules):
    machine.has("java", f"cat <<'END'\n{modules}\nEND")
    machine.has("apt-get", "exit 1")
    done = machine.set_up()
    assert done.returncode == 2
    assert INSTALL in done.stderr


def test_a_java_home_that_is_wrong_is_named(machine):
    machine.has("java", GOOD_JAVA)
    done = machine.set_up(JAVA_HOME="/no/such/java")
    assert done.returncode == 2
    assert "JAVA_HOME=/no/such/java" in done.stderr


def test_a_python_that_cannot_make_environments_is_explained(machine):
    machine.has("java", GOOD_JAVA)
    machine.has("python3", f'[ "$1" = -c ] && exec "{sys.executable}" "$@"\nexit 1')
    done = machine.set_up()
    assert done.returncode == 2
    assert "python3-venv" in done.stderr


# --- the lock and the wheel -------------------------------------------------------------------


def lock_lines() -> list[str]:
    return (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()


def test_the_lock_holds_plain_pins_and_no_address():
    for line in lock_lines():
        pin = Requirement(line)
        assert [item.operator for item in pin.specifier] == ["=="], line
        assert pin.url is None
        assert "/" not in line


def test_the_lock_is_all_that_is_depended_on_and_nothing_else():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    direct = list(project["dependencies"])
    for extra in project["optional-dependencies"].values():
        direct += extra
    pinned = {canonicalize_name(pin.name): pin for pin in map(Requirement, lock_lines())}
    needed, todo = set(), [Requirement(text) for text in [*direct, "uv", "setuptools"]]
    while todo:
        wanted = todo.pop()
        name = canonicalize_name(wanted.name)
        if wanted.marker and not wanted.marker.evaluate({"extra": ""}):
            continue
        assert name in pinned, f"{wanted} is not in requirements.lock"
        (pin,) = pinned[name].specifier
        assert wanted.specifier.contains(pin.version), f"{wanted}, but the lock has {pin}"
        if name not in needed and name != "uv":
            todo.extend(map(Requirement, distribution(name).requires or []))
        needed.add(name)
    assert set(pinned) - needed == set()


def test_the_wheel_holds_jobs_and_conf(tmp_path):
    tree = tmp_path / "tree"
    skip = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("lib", "jobs", "conf"):
        shutil.copytree(ROOT / name, tree / name, symlinks=True, ignore=skip)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree / name)
    build = [sys.executable, "-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*build, "-q", "-w", str(tmp_path)], cwd=tree, check=True, timeout=120)
    (wheel,) = tmp_path.glob("clickmill-*.whl")
    shutil.unpack_archive(wheel, tmp_path / "in", format="zip")
    package = tmp_path / "in" / "clickmill"
    packed = {str(path.relative_to(package)) for path in package.rglob("*")}
    of_lib = {str(path.relative_to(ROOT / "lib/clickmill")) for path in (ROOT / "lib/clickmill").rglob("*.py")}
    of_jobs = {f"jobs/{path.name}" for path in (ROOT / "jobs").glob("*.py")}
    of_conf = {f"conf/{path.relative_to(ROOT / 'conf')}" for path in (ROOT / "conf").rglob("*.yaml")}
    assert len(of_jobs) > 1
    assert len(of_conf) > 3
    assert (of_lib | of_jobs | of_conf | {"py.typed"}) - packed == set()
