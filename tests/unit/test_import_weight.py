"""What a command does not need, it does not load."""

import subprocess
import sys

HEAVY = ("numba", "sklearn", "xgboost", "pyarrow", "pyspark", "matplotlib", "pandas", "scipy", "torch")

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


def test_the_jobs_of_a_day_need_no_torch_before_a_network_is_trained_or_scores():
    code = "import sys, clickmill.jobs.pipeline; sys.exit('torch' in sys.modules or 'horovod' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
