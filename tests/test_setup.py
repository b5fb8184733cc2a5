"""Set-up on machines that lack something (stand-ins for python3, java, apt-get), and the files that it reads."""

import platform
import re
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
TOOLS = (
    "sh",
    "dirname",
    "sed",
    "grep",
    "cat",
    "cksum",
    "date",
    "mkdir",
    "rm",
    "chmod",
    "pwd",
    "touch",
    "uname",
    "mktemp",
)
GOOD_JAVA = "#!/bin/sh\necho java.base@17.0.9\necho jdk.incubator.vector@17.0.9\n"
INSTALL = "apt-get install -y openjdk-17-jre-headless"


class Machine:
    """A checkout in a path with a space, and a PATH that holds only what the test puts there."""

    def __init__(self, folder: Path):
        self.checkout, self.bin = folder / "my checkout", folder / "bin"
        (self.checkout / "lib").mkdir(parents=True)
        shutil.copytree(ROOT / "setup", self.checkout / "setup")
        for name in ("requirements.lock", "requirements-deep.lock", "pyproject.toml"):
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

    def has_environment(self) -> None:
        """A .venv whose Python runs, and whose uv can install nothing."""
        programs = self.checkout / ".venv" / "bin"
        programs.mkdir(parents=True)
        for name, body in (("python", f'exec "{sys.executable}" "$@"'), ("uv", "exit 1")):
            (programs / name).write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
            (programs / name).chmod(0o755)

    @staticmethod
    def kept_name(torch: str) -> str:
        """The folder in the cache where a Horovod for this torch is kept."""
        script = (ROOT / "setup" / "deep.sh").read_text(encoding="utf-8")
        recipe = re.search(r"^recipe=(\d+)", script, re.MULTILINE)[1]
        cuda = str(pins("requirements-deep.lock")["nvidia-cuda-runtime"].specifier).lstrip("=")
        flavour = f"cuda{cuda}" if sys.platform == "linux" and platform.machine() == "x86_64" else "cpu"
        tag = sys.implementation.cache_tag
        return f"{tag}-{platform.machine()}-torch{torch}-horovod0.28.1-{flavour}-{recipe}"

    def set_up(self, script: str = "setup.sh", **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.checkout / "setup" / script)],
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


# --- the deep part ----------------------------------------------------------------------------


def test_deep_without_an_environment(machine):
    done = machine.set_up("deep.sh")
    assert done.returncode == 2
    assert "make setup" in done.stderr


COMPILES = "exit 0"
TOO_OLD = 'case "$*" in *c++20*) exit 1 ;; esac'


@pytest.mark.parametrize(
    ("compiler", "tools", "packages"),
    [
        (None, (), "g++ cmake make"),
        (TOO_OLD, ("cmake", "make"), "g++"),
        (COMPILES, ("make",), "cmake"),
    ],
)
def test_what_horovod_is_built_with_is_named_before_anything_is_fetched(machine, compiler, tools, packages):
    machine.has_environment()
    machine.has("apt-get", f'touch "{machine.bin}/called"; exit 1')
    for name, body in (("c++", compiler), *((tool, "exit 0") for tool in tools)):
        if body:
            machine.has(name, body)
    done = machine.set_up("deep.sh")
    assert done.returncode == 2
    assert f"sudo apt-get install -y {packages}\n" in done.stderr
    assert "torch" not in done.stdout
    assert not (machine.bin / "called").exists()


def test_root_on_debian_gets_the_compiler_installed(machine):
    machine.has_environment()
    machine.has("id", "echo 0")
    machine.has("make", "exit 0")
    machine.has(
        "apt-get",
        f"""cd "{machine.bin}"; echo "$*" >>called
for tool in c++ cmake; do printf '#!/bin/sh\n' >$tool; chmod +x $tool; done""",
    )
    done = machine.set_up("deep.sh")
    assert (machine.bin / "called").read_text(encoding="utf-8") == "install -y -q g++ cmake\n"
    assert "installing torch" in done.stdout, "set-up went on"
    assert done.returncode == 2
    assert "requirements-deep.lock could not be installed" in done.stderr


def test_a_wheel_that_is_kept_needs_no_compiler_and_one_for_another_torch_is_not_taken(machine):
    machine.has_environment()
    torch = str(pins("requirements-deep.lock")["torch"].specifier).lstrip("=")
    kept = machine.bin.parent / ".cache" / "clickmill" / "horovod"
    for version, taken in (("1.13.0", False), (torch, True)):
        of_version = kept / machine.kept_name(version)
        of_version.mkdir(parents=True)
        (of_version / "horovod-0.28.1-some.whl").touch()
        done = machine.set_up("deep.sh")
        assert ("installing torch" in done.stdout) is taken
        assert ("compiler" in done.stderr) is not taken


# --- the locks and the wheel -------------------------------------------------------------------


LOCKS = ("requirements.lock", "requirements-deep.lock", "requirements-mlflow.lock")


def pins(lock: str) -> dict[str, Requirement]:
    lines = (ROOT / lock).read_text(encoding="utf-8").splitlines()
    return {canonicalize_name(pin.name): pin for pin in map(Requirement, lines)}


def asked_for(*extras: str) -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = list(project["dependencies"])
    for extra in extras:
        asked += project["optional-dependencies"][extra]
    return list(map(Requirement, asked))


def brought_along(direct: list[Requirement], pinned: dict[str, Requirement]) -> set[str]:
    """Names of all that is needed for what is asked for; each must be pinned, at a version that fits."""
    needed, todo, done = set(), list(direct), set()
    while todo:
        wanted = todo.pop()
        name = canonicalize_name(wanted.name)
        assert name in pinned, f"{wanted} is in no lock"
        (pin,) = pinned[name].specifier
        assert wanted.specifier.contains(pin.version), f"{wanted}, but the lock has {pin}"
        needed.add(name)
        if name != "uv" and (name, *sorted(wanted.extras)) not in done:
            done.add((name, *sorted(wanted.extras)))
            todo += requirements_of(name, wanted.extras)
    return needed


def requirements_of(name: str, extras: set[str]) -> list[Requirement]:
    asked = map(Requirement, distribution(name).requires or [])
    return [
        item for item in asked if not item.marker or any(item.marker.evaluate({"extra": e}) for e in ("", *extras))
    ]


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_holds_plain_pins_and_no_address(lock):
    for pin in pins(lock).values():
        assert [item.operator for item in pin.specifier] == ["=="], pin
        assert pin.url is None
        assert "/" not in str(pin)


def test_the_lock_is_all_that_is_depended_on_and_nothing_else():
    pinned = pins("requirements.lock")
    direct = [*asked_for("spark", "dev"), Requirement("uv"), Requirement("setuptools")]
    assert set(pinned) - brought_along(direct, pinned) == set()


def test_the_deep_lock_is_what_torch_and_horovod_bring_and_the_other_lacks():
    for package in ("torch", "horovod"):
        pytest.importorskip(package, reason=f"{package} is not installed: make deep")
    base, deep = pins("requirements.lock"), pins("requirements-deep.lock")
    assert set(base) & set(deep) == set()
    needed = brought_along([*asked_for("deep"), *requirements_of("horovod", set())], base | deep)
    assert set(deep) - needed == set()


def test_the_lock_of_mlflow_is_what_it_brings_and_the_base_lacks():
    pytest.importorskip("mlflow", reason="mlflow is not installed: make mlflow")
    base, deep, own = (pins(lock) for lock in LOCKS)
    assert set(base) & set(own) == set()
    assert all(deep.get(name, pin) == pin for name, pin in own.items()), "one .venv may have both"
    assert set(own) - brought_along(asked_for("mlflow"), base | own) == set()


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
