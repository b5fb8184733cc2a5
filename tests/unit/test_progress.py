"""What is shown of a job's work never ends it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CODE = """
import os, sys
from pathlib import Path
from clickmill.progress import Progress
read, write = os.pipe()
os.close(read)
os.dup2(write, 2)
progress = Progress()
progress.say("is the champion now")
with progress.step("writes"):
    Path(sys.argv[1]).touch()
os._exit(0)
"""


def test_work_goes_on_where_whoever_looked_on_has_gone(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", CODE, str(tmp_path / "written")], check=False)
    assert (done.returncode, (tmp_path / "written").exists()) == (0, True)
