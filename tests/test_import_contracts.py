"""Each import contract of pyproject.toml is broken once, to see that it can fail."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
    "contracts"
]
LAYERS, MATHEMATICS, SCORING = (contract["name"] for contract in CONTRACTS)


@pytest.mark.parametrize(
    ("contract", "module", "line"),
    [
        (LAYERS, "errors.py", "import clickmill.config"),
        (LAYERS, "schema.py", "import clickmill.tables"),
        (LAYERS, "sample/driver.py", "import clickmill.ingest.driver"),
        (MATHEMATICS, "hashing.py", "import pyspark"),
        (MATHEMATICS, "sample/worker.py", "import delta"),
        (MATHEMATICS, "train/logreg/worker.py", "import clickmill.session"),
        (SCORING, "models/logreg.py", "import sklearn"),
    ],
)
def test_a_forbidden_import_is_seen(tmp_path, contract, module, line):
    tree = tmp_path / "tree"
    for name in ("lib", "jobs", "conf"):
        shutil.copytree(ROOT / name, tree / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tree)
    with (tree / "lib" / "clickmill" / module).open("a", encoding="utf-8") as file:
        file.write(f"\n\ndef _broken():\n    {line}\n")
    done = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree / "lib")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert f"{contract} BROKEN" in " ".join(done.stdout.split())
