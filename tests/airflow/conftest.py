"""Tests of the DAGs, run by the pytest of .venv-airflow (`make test` does); another environment leaves them out.

A job is played by a script in most of them: what matters is what Airflow makes of its end.
"""

from __future__ import annotations

import os
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tests" / "cluster"))  # (`stand`: nothing above this folder is collected)

try:
    version("apache-airflow")
except PackageNotFoundError:
    collect_ignore_glob = ["test_*.py"]
else:  # before the first import of airflow, which reads these
    os.environ |= {
        "AIRFLOW_HOME": tempfile.mkdtemp(prefix="clickmill-airflow-"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "airflow" / "dags"),
        "AIRFLOW_CONN_CLICKMILL_SPARK": '{"conn_type": "spark", "host": "local[2]"}',
    }
    for name in [name for name in os.environ if name.startswith("CLICKMILL_")]:
        del os.environ[name]
