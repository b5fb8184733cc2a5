"""Set-up and demo on a fresh copy of the checkout, for real: slow, and the first time it needs the network."""

import shutil
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow
OFFLINE = ["unshare", "--net", "sh", "-c", 'ip link set lo up 2>/dev/null || true; exec "$@"', "offline"]


def make(checkout: Path, target: str, *, offline: bool = False) -> tuple[str, float]:
    """Output and seconds of `make TARGET` in the checkout, which must succeed."""
    start = time.monotonic()
    done = subprocess.run(
        [*(OFFLINE if offline else []), "make", target],
        cwd=checkout,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=580,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout, time.monotonic() - start


def can_go_offline() -> bool:
    return shutil.which("unshare") is not None and subprocess.run([*OFFLINE, "true"], check=False).returncode == 0


def test_a_strangers_first_ten_minutes(tmp_path):
    """Set-up in a path with a space, twice, offline, with .venv deleted, moved elsewhere; and the demo, twice.

    The deep part too, built if it is not kept already.
    """
    checkout = tmp_path / "a checkout"
    tracked = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, tracked.stdout.split("\0")):
        target = checkout / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_symlink() or (ROOT / name).is_file():
            shutil.copy2(ROOT / name, target, follow_symlinks=False)

    said, first = make(checkout, "setup")
    assert first <= 180
    assert "set-up: done" in said
    said, seconds = make(checkout, "setup")
    assert seconds < 3
    assert "set-up" not in said.replace("setup/setup.sh", "")

    said, seconds_deep = make(checkout, "deep")
    assert "2 processes added up a vector" in said
    assert first + seconds_deep <= 480
    said, seconds = make(checkout, "deep")
    assert seconds < 3
    assert "set-up" not in said.replace("setup/setup.sh", "")

    offline = can_go_offline()
    shutil.rmtree(checkout / ".venv")
    said, seconds = make(checkout, "setup", offline=offline)
    assert "making .venv" in said
    assert "NO " not in said

    moved = tmp_path / "moved"
    checkout.rename(moved)
    said, _ = make(moved, "deep", offline=offline)
    assert "building" not in said, "the wheel was kept"
    assert "2 processes added up a vector" in said
    assert "making .venv" in said, "scripts hold absolute paths, so a moved environment is made anew"

    said, seconds = make(moved, "demo", offline=offline)
    assert seconds <= 120
    for word in ("ERROR", "WARN", "Traceback", "Exception"):
        assert word not in said
    assert "NE" in said
    (report,) = (moved / "warehouse").rglob("*.html")
    assert "Content-Security-Policy" in report.read_text(encoding="utf-8")
    make(moved, "demo", offline=offline)
