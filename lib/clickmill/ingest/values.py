"""Values of the raw log → what `click_log` holds: text, doubles, labels. No Spark."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_LABEL_WORDS = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1}

Mask = npt.NDArray[np.bool_]


def text(values: pa.Array) -> pa.Array:
    """Any column as strings (n,); what says nothing is null: see `missing`."""
    if pa.types.is_floating(values.type):
        values = pc.if_else(pc.is_nan(values), pa.scalar(None, values.type), values)
    strings = values if pa.types.is_string(values.type) else values.cast(pa.string())
    empty = pc.equal(strings, "")
    if not pc.any(empty).as_py():
        return strings
    return pc.if_else(empty, pa.scalar(None, pa.string()), strings)


def numbers(values: pa.Array) -> tuple[npt.NDArray[np.float64], Mask]:
    """Doubles (n,), NaN where there is none, and which rows have a finite number.

    Text must be a decimal number: spaces around it are let pass; `nan`, `inf`, `0x10` and `1,5` are none. A date
    or a time is no number either.
    """
    if pa.types.is_temporal(values.type):
        return np.full(len(values), np.nan), np.zeros(len(values), bool)
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        values = _from_text(values)
    elif not pa.types.is_floating(values.type):
        values = values.cast(pa.int8()) if pa.types.is_boolean(values.type) else values
        values = values.cast(pa.float64(), safe=False)
    number = pc.fill_null(values.cast(pa.float64()), np.nan).to_numpy(zero_copy_only=False)
    return number, np.isfinite(number)


def missing(values: pa.Array) -> Mask:
    """Which rows say nothing: null, empty text, or NaN in a column of floats (pandas writes it for null)."""
    if pa.types.is_floating(values.type):
        gone = pc.is_null(values, nan_is_null=True)
    elif pa.types.is_string(values.type):
        gone = pc.fill_null(pc.equal(values, ""), True)
    else:
        gone = pc.is_null(values)
    return np.asarray(gone.to_numpy(zero_copy_only=False), bool)


def labels(values: pa.Array) -> tuple[npt.NDArray[np.int8], Mask]:
    """Labels (n,) 0 or 1, and which rows have one: 0, 1, 0.0, 1.0, true, false, and nothing else."""
    if pa.types.is_string(values.type):
        words = pa.array(_LABEL_WORDS)
        place = pc.fill_null(pc.index_in(values, value_set=words, skip_nulls=True), -1)
        at = place.to_numpy(zero_copy_only=False)
        return np.array([*_LABEL_WORDS.values(), 0], np.int8)[at], at >= 0
    number, _ = numbers(values)
    return (number == 1).astype(np.int8), (number == 0) | (number == 1)


def _from_text(values: pa.Array) -> pa.Array:
    """Text as doubles, null where it is no number."""
    try:
        return values.cast(pa.float64())
    except pa.ArrowInvalid:
        trimmed = pc.utf8_trim_whitespace(values)
        fits = pc.match_substring_regex(trimmed, _NUMBER)
        return pc.if_else(fits, trimmed, pa.scalar(None, pa.string())).cast(pa.float64())
