"""What a command does not need, it does not load."""

import subprocess
import sys

HEAVY = ("numba", "sklearn", "xgboost", "pyarrow", "pyspark", "matplotlib", "pandas", "scipy")

HELP = f"""
import sys
from clickmill.cli import main
sys.argv = ["clickmill", "--help"]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
loaded = sorted(set({HEAVY!r}) & set(sys.modules))
sys.exit(f"clickmill --help loads {{loaded}}" if loaded else 0)
"""


def test_help_loads_nothing_heavy():
    done = subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "doctor" in done.stdout
