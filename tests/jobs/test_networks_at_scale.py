"""The proof that a network earns its keep: 2.5M rows in which pairs of values act by traits that they share.

Run with `pytest -m slow -s tests/jobs/test_networks_at_scale.py` to see the figures. Values of C9, C10 and C12
have an affinity for each other (`simulate.affinity`): 680,000 pairs, of which most are never seen, though their
values are. The linear model is given these pairs as crosses, as well as all that are planted, and an l2 to choose;
the network's wide part has the same crosses.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from deltalake import DeltaTable

CLICKMILL = str(Path(sys.executable).parent / "clickmill")
DS = "2026-01-05"
AFFINE = """
simulate: {rows_per_day: 500000, ctr: 0.05, drift: 0, affinity: 1.2}
sampling: {keep_rate: 0.05}
split: {train: 3d, validation: 1d, test: 1d}
dataset:
  crosses: [[C1, C4], [C2, C5], [C3, C7], [C4, C13], [C6, C11], [C8, C19], [C9, C10], [C9, C12], [C10, C12]]
models:
  lr: {kind: logreg, bits: 22, l2: [1.0e-5, 2.5e-5, 1.0e-4], max_iterations: 1000}
  deep:
    kind: wide_deep
    wide_bits: 22
    ftrl: {alpha: 0.1, l1: 0, l2: 30}
    embedding: {dim: 1, max_bits: 8, dims: {C9: 8, C10: 8, C12: 8}, bits: {C9: 14, C10: 14, C12: 14}}
    hidden: [64, 32]
    dropout: 0.2
    optimizer: adam
    learning_rate: 0.003
    launcher: horovod
    ranks: 2
    batch_rows: 128
    epochs: 6
    validate_steps: 571
    patience: 4
"""


@pytest.mark.slow
def test_wide_and_deep_beats_the_linear_model_with_crosses_and_p_adds_up_to_the_truth(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="torch is not installed (make deep)")
    (tmp_path / "affine.yaml").write_text(AFFINE, encoding="utf-8")
    warehouse = tmp_path / "warehouse"
    command = [CLICKMILL, "run", "pipeline", "--conf", "datasets/simulated.yaml", "--ds", DS]
    command += ["--conf", str(tmp_path / "affine.yaml"), "--set", f"warehouse={warehouse}", "--models", "lr,deep"]
    done = subprocess.run(command, capture_output=True, text=True)
    print(done.stdout)
    assert done.returncode == 0, done.stderr

    def rows(table: str) -> list[dict[str, object]]:
        return DeltaTable(warehouse / table).to_pyarrow_table(filters=[("slice", "=", "all")]).to_pylist()

    for one in rows("metrics"):
        if (one["stage"], one["metric"]) == ("calibrated", "calibration_to_truth"):
            print(f"{one['model_id']}: Σp/Σp_true {one['value']:.4f}")
            assert 0.98 <= one["value"] <= 1.02
    (found,) = (
        one for one in rows("comparisons") if one["metric"] == "ne" and str(one["model_id"]).startswith("deep")
    )
    print(f"NE of {found['model_id']} less that of {found['other_id']}: {found}")
    assert str(found["other_id"]).startswith("lr")
    assert found["low"] < found["difference"] < found["high"] < 0
