"""What the judge writes of rows in memory: no Spark, no features, only labels and probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from clickmill.bootstrap import unit_keys
from clickmill.evaluate.cells import Judged
from clickmill.evaluate.figures import metric_rows
from clickmill.evaluate.intervals import intervals
from clickmill.evaluate.resampling import Resampled
from clickmill.evaluate.tally import Tallying
from clickmill.schema import EVERYTHING, LAST_STAGE

Floats = NDArray[np.float64]
Rows = list[dict[str, Any]]


def judge(
    label: NDArray[np.int8],
    models: Mapping[str, Floats],
    slices: NDArray[np.int32],
    names: tuple[str, ...],
    *,
    replicates: int = 200,
    seed: int = 42,
    tag: str = "e",
) -> dict[str, tuple[Rows, Rows]]:
    """Of each model's p (n,) its rows of `metrics` (at the last stage) and of `replicates`, less day and run.

    slices: (n,), the place in `names` of each row's slice. tag: begins the rows' event ids.
    """
    groups = np.column_stack([np.zeros(len(label)), slices + 1]).astype(np.int32)
    everywhere = (EVERYTHING, *names)
    event_id = pa.array([f"{tag}{n}" for n in range(len(label))])
    judged = {name: Judged(label, np.ones(len(label)), (p, p, p)) for name, p in models.items()}
    resampled = Resampled.empty(len(everywhere), len(models), replicates)
    resampled.add(event_id, unit_keys(event_id, event_id, seed), groups, list(judged.values()))
    resampled.whole(range(1, len(everywhere)))
    found = {}
    for number, (name, rows) in enumerate(judged.items()):
        counting = Tallying(len(everywhere))
        counting.add(rows, np.full(len(label), np.nan), groups)
        tally = counting.tally()
        own = intervals(everywhere, number, resampled, None, None)
        metrics = [
            row for row in metric_rows(tally, everywhere, own, traffic="full") if row["stage"] == LAST_STAGE
        ]
        drawn = [
            {
                "slice": one,
                "calibration_id": f"c-{name}",
                "judged": resampled.digest,
                "unit": "impression",
                "units": resampled.units(group),
                "seed": seed,
                **{field: values.tolist() for field, values in resampled.draws(number, group)._asdict().items()},
            }
            for group, one in enumerate(everywhere)
            if resampled.units(group)
        ]
        found[name] = [row for row in metrics if row["stage"] == LAST_STAGE], drawn
    return found
