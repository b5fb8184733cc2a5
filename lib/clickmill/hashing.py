"""Hashes of slots, numbers, crosses and keys: one definition for training, scoring and other languages.

MurmurHash3 by Austin Appleby (public domain), seed 42. Values go through numba straight from Arrow's
buffers; nothing is done per value in Python. `tests/golden/` holds vectors for other languages.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numba import njit
from numpy.typing import NDArray

SEED = 42
SEPARATOR = "\x1f"
RARE = "__rare__"
"""The value that rare and unseen values of a slot are folded into."""

Int32 = NDArray[np.int32]
Values: TypeAlias = "Sequence[str | None] | pa.Array | pa.ChunkedArray"

_C1, _C2 = np.uint32(0xCC9E2D51), np.uint32(0x1B873593)
_K1, _K2 = np.uint64(0x87C37B91114253D5), np.uint64(0x4CF5AD432745937F)


def hash_slot(slot: str, values: Values) -> Int32:
    """MurmurHash3_x86_32 of utf8(slot + "=" + value), seed 42.

    values: n strings or None (a Python sequence, or an Arrow string array); a missing value is the
    empty string. Returns (n,) int32. Equals `mmh3.hash(f"{slot}={value}", 42)` and the hash inside
    Spark ML's FeatureHasher. Raises TypeError for values that are not text.
    """
    offsets, data = _buffers(values)
    prefix = np.frombuffer(f"{slot}=".encode(), np.uint8)
    hashes: Int32 = _hash32(prefix, offsets, data, np.uint32(SEED))
    return hashes


def missing_hash(slot: str) -> np.int32:
    """The hash of a slot's missing value."""
    return np.int32(hash_slot(slot, [""])[0])


def rare_hash(slot: str) -> np.int32:
    """The hash that rare and unseen values of a slot (or cross) are folded into."""
    return np.int32(hash_slot(slot, [RARE])[0])


def cross_name(parts: Sequence[str]) -> str:
    """`a×b`: what a cross is called, and what a missing cross is hashed under."""
    return "×".join(parts)


def hash_cross(name: str, parts: Sequence[tuple[str, Int32]]) -> Int32:
    """MurmurHash3_x86_32 of the parts' hashes as little-endian int32, joined in order, seed 42.

    parts: two or more (slot, (n,) int32 hashes of that slot). Where a part is missing, so is the
    cross: h(name, ""). Returns (n,) int32. Raises ValueError for fewer than two parts or unequal lengths.
    """
    if len(parts) < 2:
        raise ValueError(f"cross {name!r} has {len(parts)} parts: at least two are needed")
    if len({len(hashes) for _, hashes in parts}) != 1:
        raise ValueError(f"cross {name!r}: its parts have {[len(hashes) for _, hashes in parts]} rows")
    table = np.ascontiguousarray(np.column_stack([hashes for _, hashes in parts]), dtype=np.int32)
    missing = np.array([missing_hash(slot) for slot, _ in parts], dtype=np.int32)
    hashes: Int32 = _hash_rows(table, missing, missing_hash(name), np.uint32(SEED))
    return hashes


def bucket(values: NDArray[np.floating] | pa.Array, edges: Sequence[float]) -> NDArray[np.int64]:
    """How many of the rising `edges` are ≤ x, for each x of values (n,); -1 where x is missing (NaN or null)."""
    x = _floats(values)
    found = np.searchsorted(np.asarray(edges, dtype=np.float64), x, side="right")
    return np.where(np.isnan(x), -1, found)


def hash_number(name: str, values: NDArray[np.floating] | pa.Array, edges: Sequence[float]) -> Int32:
    """The hash of a number's bucket as the slot value `b7`; missing as for slots. (n,) floats → (n,) int32."""
    table = hash_slot(name, ["", *(f"b{i}" for i in range(len(edges) + 1))])
    return table[bucket(values, edges) + 1]


def to_index(hashes: Int32, bits: int) -> Int32:
    """`h & (2^bits − 1)` as int32, in [0, 2^bits); with bits = 32 the whole hash as it is. 1 ≤ bits ≤ 32."""
    if not 1 <= bits <= 32:
        raise ValueError(f"bits must lie in [1, 32], found {bits}")
    if bits == 32:
        return hashes
    return hashes & np.int32((1 << bits) - 1)


def event_ids(fields: Sequence[pa.Array]) -> pa.Array:
    """32 hex digits for each row: MurmurHash3_x64_128 of its fields joined by U+001F, seed 42.

    fields: one or more string arrays of equal length n; null counts as empty. Equal rows get equal ids.
    The digits are those of the 16 bytes in the order that the reference code writes them: first the low,
    then the high 64-bit word, each little-endian. Equals `mmh3.hash_bytes("\\x1f".join(row), 42).hex()`,
    and `mmh3.hash128(…, 42).to_bytes(16, "little").hex()`. Raises ValueError without fields.
    """
    if not len(fields):
        raise ValueError("an event id needs at least one field")
    texts = [pc.fill_null(_text(field), "") for field in fields]
    joined = texts[0] if len(texts) == 1 else pc.binary_join_element_wise(*texts, SEPARATOR)
    offsets, data = _buffers(joined)
    hashes = _hash128(np.frombuffer(b"", np.uint8), offsets, data, np.uint64(SEED))
    digits = _hex(hashes.view(np.uint8).reshape(len(offsets) - 1, 16))
    ends = np.arange(len(offsets), dtype=np.int32) * 32
    return pa.StringArray.from_buffers(len(offsets) - 1, pa.py_buffer(ends), pa.py_buffer(digits))


def keyed_uniform(purpose: str, seed: int, keys: Values) -> NDArray[np.float64]:
    """A number in [0, 1) for each key, the same everywhere and for ever.

    (first 64 bits of MurmurHash3_x64_128(utf8(purpose ‖ U+001F ‖ key), seed) >> 11) / 2^53. Purposes
    `sample`, `fold` and `boot` are independent of each other. keys: n strings. Returns (n,) float64.
    Raises ValueError for a seed outside [0, 2^32).
    """
    first = keyed_words(purpose, seed, keys)
    uniform: NDArray[np.float64] = (first >> np.uint64(11)).astype(np.float64) / 2.0**53
    return uniform


def keyed_words(purpose: str, seed: int, keys: Values) -> NDArray[np.uint64]:
    """The 64 bits behind `keyed_uniform`, (n,) uint64; a missing key counts as empty. Raises as it does."""
    if not 0 <= seed < 2**32:
        raise ValueError(f"a seed must lie in [0, 2^32), found {seed}")
    offsets, data = _buffers(keys)
    prefix = np.frombuffer(f"{purpose}{SEPARATOR}".encode(), np.uint8)
    words: NDArray[np.uint64] = _hash128(prefix, offsets, data, np.uint64(seed))[:, 0]
    return words


def is_missing(values: Values) -> NDArray[np.bool_]:
    """Which of n strings are null, (n,) bool."""
    return np.asarray(_text(values).is_null().to_numpy(zero_copy_only=False), bool)


def _text(values: Values) -> pa.Array:
    """Any accepted form as one string or large_string array."""
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if not isinstance(values, pa.Array):
        return pa.array(values, pa.string())
    if pa.types.is_dictionary(values.type) or pa.types.is_null(values.type):
        values = values.cast(pa.string())
    if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
        raise TypeError(f"values to hash must be text, found {values.type}")
    return values


def _buffers(values: Values) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Offsets (n + 1,) and bytes of the texts; a null is empty."""
    array = _text(values)
    if array.null_count:
        array = pc.fill_null(array, "")
    _, ends, data = array.buffers()
    kind = np.int64 if pa.types.is_large_string(array.type) else np.int32
    offsets = np.zeros(1, np.int64)
    if ends is not None and len(array):
        offsets = np.frombuffer(ends, kind)[array.offset : array.offset + len(array) + 1].astype(np.int64)
    texts = np.frombuffer(b"" if data is None else data, np.uint8)
    texts.flags.writeable = False  # always, so that numba compiles each kernel once
    return offsets, texts


def _floats(values: NDArray[np.floating] | pa.Array) -> NDArray[np.float64]:
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return np.asarray(values.cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)
    return np.asarray(values, dtype=np.float64)


@njit(cache=True, nogil=True, inline="always")
def splitmix64(x):  # type: ignore[no-untyped-def]
    """64 well-mixed bits of a uint64, inside kernels (Steele, Lea, Flood 2014)."""
    x = np.uint64(x + np.uint64(0x9E3779B97F4A7C15))
    x = np.uint64((x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9))
    x = np.uint64((x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB))
    return np.uint64(x ^ (x >> np.uint64(31)))


@njit(cache=True, nogil=True, inline="always")
def _mix32(h, k):  # type: ignore[no-untyped-def]
    k = np.uint32(k * _C1)
    k = np.uint32((k << np.uint32(15)) | (k >> np.uint32(17)))
    h = np.uint32(h ^ np.uint32(k * _C2))
    h = np.uint32((h << np.uint32(13)) | (h >> np.uint32(19)))
    return np.uint32(h * np.uint32(5) + np.uint32(0xE6546B64))


@njit(cache=True, nogil=True, inline="always")
def _end32(h, k, length):  # type: ignore[no-untyped-def]
    """The tail's bytes `k` (0 if there are none), the length, and the final avalanche."""
    k = np.uint32(k * _C1)
    k = np.uint32((k << np.uint32(15)) | (k >> np.uint32(17)))
    h = np.uint32(h ^ np.uint32(k * _C2) ^ np.uint32(length))
    h = np.uint32((h ^ (h >> np.uint32(16))) * np.uint32(0x85EBCA6B))
    h = np.uint32((h ^ (h >> np.uint32(13))) * np.uint32(0xC2B2AE35))
    return np.uint32(h ^ (h >> np.uint32(16)))


@njit(cache=True, nogil=True, inline="always")
def _word32(data, at):  # type: ignore[no-untyped-def]
    word = np.uint32(data[at]) | np.uint32(data[at + 1]) << np.uint32(8)
    return word | np.uint32(data[at + 2]) << np.uint32(16) | np.uint32(data[at + 3]) << np.uint32(24)


@njit(cache=True, nogil=True)
def _hash32(prefix, offsets, data, seed):  # type: ignore[no-untyped-def]
    out = np.empty(len(offsets) - 1, np.int32)
    start, carried, held = seed, np.uint32(0), 0
    for byte in prefix:
        carried |= np.uint32(byte) << np.uint32(8 * held)
        held += 1
        if held == 4:
            start, carried, held = _mix32(start, carried), np.uint32(0), 0
    shift = np.uint64(8 * held)
    for i in range(len(out)):
        h, k = start, np.uint64(carried)  # k: the bytes not yet mixed, `held` of them after each whole word
        at, end = offsets[i], offsets[i + 1]
        while at + 4 <= end:
            k |= np.uint64(_word32(data, at)) << shift
            h = _mix32(h, np.uint32(k))
            k >>= np.uint64(32)
            at += 4
        n = held
        for j in range(at, end):
            k |= np.uint64(data[j]) << np.uint64(8 * n)
            n += 1
        if n >= 4:
            h = _mix32(h, np.uint32(k))
            k >>= np.uint64(32)
        out[i] = np.int32(_end32(h, np.uint32(k), len(prefix) + end - offsets[i]))
    return out


@njit(cache=True, nogil=True)
def _hash_rows(table, missing, when_missing, seed):  # type: ignore[no-untyped-def]
    out = np.empty(len(table), np.int32)
    width = table.shape[1]
    for i in range(len(table)):
        h, whole = seed, True
        for j in range(width):
            whole = whole and table[i, j] != missing[j]
            h = _mix32(h, np.uint32(table[i, j]))
        out[i] = np.int32(_end32(h, np.uint32(0), 4 * width)) if whole else when_missing
    return out


@njit(cache=True, nogil=True, inline="always")
def _left(x, by):  # type: ignore[no-untyped-def]
    return np.uint64((x << np.uint64(by)) | (x >> np.uint64(64 - by)))


@njit(cache=True, nogil=True, inline="always")
def _avalanche64(k):  # type: ignore[no-untyped-def]
    k = np.uint64((k ^ (k >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD))
    k = np.uint64((k ^ (k >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53))
    return np.uint64(k ^ (k >> np.uint64(33)))


@njit(cache=True, nogil=True)
def _hash128(prefix, offsets, data, seed):  # type: ignore[no-untyped-def]
    """(n, 2) uint64: MurmurHash3_x64_128 of prefix and value."""
    n, p = len(offsets) - 1, len(prefix)
    longest = 0
    for i in range(n):
        longest = max(longest, offsets[i + 1] - offsets[i])
    words = np.zeros(2 * ((p + longest) // 16 + 1), np.uint64)
    text = words.view(np.uint8)  # the machine is little-endian, as Arrow's buffers are
    for j in range(p):
        text[j] = prefix[j]
    out = np.empty((n, 2), np.uint64)
    for i in range(n):
        length = p + offsets[i + 1] - offsets[i]
        blocks = length // 16
        for j in range(p, length):
            text[j] = data[offsets[i] + j - p]
        for j in range(length, 16 * blocks + 16):
            text[j] = 0
        h1, h2 = seed, seed
        for b in range(blocks):
            k1, k2 = words[2 * b], words[2 * b + 1]
            h1 = np.uint64(h1 ^ np.uint64(_left(np.uint64(k1 * _K1), 31) * _K2))
            h1 = np.uint64((_left(h1, 27) + h2) * np.uint64(5) + np.uint64(0x52DCE729))
            h2 = np.uint64(h2 ^ np.uint64(_left(np.uint64(k2 * _K2), 33) * _K1))
            h2 = np.uint64((_left(h2, 31) + h1) * np.uint64(5) + np.uint64(0x38495AB5))
        k1, k2 = words[2 * blocks], words[2 * blocks + 1]
        h2 = np.uint64(h2 ^ np.uint64(_left(np.uint64(k2 * _K2), 33) * _K1) ^ np.uint64(length))
        h1 = np.uint64(h1 ^ np.uint64(_left(np.uint64(k1 * _K1), 31) * _K2) ^ np.uint64(length))
        h1 = np.uint64(h1 + h2)
        h2 = np.uint64(h2 + h1)
        h1, h2 = _avalanche64(h1), _avalanche64(h2)
        h1 = np.uint64(h1 + h2)
        out[i, 0], out[i, 1] = h1, np.uint64(h2 + h1)
    return out


@njit(cache=True, nogil=True)
def _hex(raw):  # type: ignore[no-untyped-def]
    out = np.empty(raw.size * 2, np.uint8)
    place = 0
    for i in range(raw.shape[0]):
        for j in range(raw.shape[1]):
            for digit in (int(raw[i, j]) // 16, int(raw[i, j]) % 16):
                out[place] = digit + (48 if digit < 10 else 87)
                place += 1
    return out
