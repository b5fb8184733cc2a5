"""What the README tells a newcomer to type works, and what it names is there."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from running import QUICK_JVM

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def section(title: str) -> str:
    start = README.index(f"\n## {title}\n")
    end = README.find("\n## ", start + 1)
    return README[start : end if end > 0 else None]


def test_ones_own_data_in_five_minutes(tmp_path):
    """All blocks of the walk-through, in order, in an empty folder that has only the environment and conf/."""
    walk = section("Your own data in five minutes")
    blocks = BLOCK.findall(walk)
    assert len(blocks) >= 3
    assert {language for language, _ in blocks} == {"sh"}
    here = tmp_path / "my checkout"
    here.mkdir()
    (here / ".venv").symlink_to(sys.prefix)
    shutil.copytree(ROOT / "conf", here / "conf")
    script = "set -eu\n" + "\n".join(text for _, text in blocks)
    done = subprocess.run(
        ["sh", "-c", script],
        cwd=here,
        env=os.environ | QUICK_JVM,
        capture_output=True,
        text=True,
        timeout=580,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    said = done.stdout + done.stderr
    for name in ("lr", "lr_nocross"):
        assert name in said
    for word in ("ERROR", "WARN", "Traceback"):
        assert word not in said
    scored = (here / "my_p.tsv").read_text(encoding="utf-8").splitlines()
    assert len(scored) == len((here / "my_clicks.tsv").read_text(encoding="utf-8").splitlines())
    assert all(0 < float(line) < 1 for line in scored[1:])
    (report,) = re.findall(r"`(warehouse/mine/_reports/\S+)`", walk)
    assert (here / report).is_file()
    assert (here / "conf" / "datasets" / "mine.yaml").is_file()


def test_its_make_targets_are_there():
    known = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for text in (README, (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")):
        named = set(re.findall(r"^\s*make ([a-z-]+)|`make ([a-z-]+)", text, re.MULTILINE))
        assert named
        assert {one or other for one, other in named} <= known


def test_files_of_tests_have_names_of_their_own() -> None:
    """Or `make verify`, which collects them all at once, collects none."""
    names = [path.name for path in Path("tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))


def test_its_table_of_jobs_is_that_of_jobs():
    named = set(re.findall(r"^\| `(\w+)` \|", section("Running it"), re.MULTILINE))
    assert named == {path.stem for path in (ROOT / "jobs").glob("[a-z]*.py")}


def test_its_links_lead_somewhere():
    for document in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        text = (ROOT / document).read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)#]+)\)", text):
            assert target.startswith("https://") or (ROOT / target).exists(), f"{document}: {target}"


def test_ci_runs_make_test_and_nothing_else(tmp_path):
    fake = tmp_path / "make"
    fake.write_text('#!/bin/sh\necho "$PWD: make $*"\n', encoding="utf-8")
    fake.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        [ROOT / ".ci" / "run"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{ROOT}: make test\n"
