"""Small networks and the rows that they eat."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from unit.nets.test_layout import dataset

from clickmill.nets.layout import Layout, layout_of
from clickmill.nets.standard import moments, standard_of
from clickmill.specs import WideDeepSpec

BITS = {"a": 3, "b": 5, "c": 4, "d": 6}
SMALL: dict[str, Any] = {"hidden": [8, 4], "wide_bits": 10, "embedding": {"dim": 4, "dims": {"b": 2}}, "seed": 3}


class Rows(NamedTuple):
    """A batch as the loader makes it, as far as a step looks at it."""

    whole: NDArray[np.int32]
    real: NDArray[np.float32]
    label: NDArray[np.float32]
    weight: NDArray[np.float32]

    def sources(self, rows: NDArray[np.int64]) -> tuple[str, ...]:
        return tuple(f"part-0.parquet, row group {row}" for row in rows)

    def cut(self, first: int, last: int) -> Rows:
        return Rows(*(part[first:last] for part in self[:4]))


def spec_of(**changes: Any) -> WideDeepSpec:
    return WideDeepSpec.model_validate(SMALL | changes)


def layout_for(spec: WideDeepSpec) -> Layout:
    return layout_of(spec, dataset(), BITS)


def rows_of(layout: Layout, n: int, *, seed: int = 0) -> Rows:
    """Whole hashes of 40 values a column, some numbers missing, weights 1 and 20, clicks about one in four."""
    rng = np.random.default_rng(seed)
    values = np.random.default_rng(99).integers(-(2**31), 2**31, (40, len(layout.whole))).astype(np.int32)
    whole = np.ascontiguousarray(values[rng.integers(0, 40, n)])
    real = (rng.normal(size=(n, len(layout.numbers))) * 30).astype(np.float32)
    real[rng.random(real.shape) < 0.2] = np.nan
    label = (rng.random(n) < 0.25).astype(np.float32)
    weight = np.where(label == 1, 1, 20).astype(np.float32)
    return Rows(whole, real, label, weight)


def standard_for(rows: Rows) -> Any:
    return standard_of(moments(rows.real))
