"""Writes hashing.json, the golden vectors: made by mmh3 and Python's own bisect, never by clickmill.

Run: .venv/bin/python tests/golden/make.py > tests/golden/hashing.json
A hash that changes here changes every model that was ever trained: such a change needs an ADR.
"""

from __future__ import annotations

import json
import random
import struct
from bisect import bisect_right
from typing import Any

import mmh3

SEED = 42
SEPARATOR = "\x1f"
LONGEST = 70
EDGES = [-100.0, -1.0, -0.5, 0.0, 0.001, 1.0, 2.0, 3.0, 10.0, 1000.0, 1e9]
ALPHABETS = ("abcdefgh=01234567×", "äöüßéñ", "日本語漢字", "🙂🚀 ~|\t", "\x00\x01\x1f\x7f\u0080\u07ff\uffff")


def main() -> None:
    print("{")
    print(",\n".join(f'"{name}": [\n{_lines(rows)}\n]' for name, rows in vectors().items()))
    print("}")


def vectors() -> dict[str, list[dict[str, Any]]]:
    """All vectors by kind; the same on every call."""
    draw = random.Random(7)
    return {
        "slots": _slots(draw),
        "crosses": _crosses(draw),
        "numbers": _numbers(),
        "uniforms": _uniforms(draw),
        "samples": _samples(draw),
        "event_ids": _event_ids(draw),
    }


def _slot(slot: str, value: str | None) -> int:
    return mmh3.hash(f"{slot}={value or ''}", SEED)


def _slots(draw: random.Random) -> list[dict[str, Any]]:
    given: list[tuple[str, str | None]] = [
        ("C1", None),
        ("C1", ""),
        ("C1", "a=b"),
        ("C", "1=a"),
        ("C1", "__rare__"),
    ]
    given += [("C1"[: 1 + n % 2] + "x" * (n % 4), _text(draw, ALPHABETS[0], n)) for n in range(LONGEST + 1)]
    given += [(f"s{n}", _text(draw, alphabet, n)) for alphabet in ALPHABETS[1:] for n in range(1, 18)]
    return [
        {
            "slot": slot,
            "value": value,
            "hash": (h := _slot(slot, value)),
            "index_18": h & (2**18 - 1),
            "index_32": h,
        }
        for slot, value in given
    ]


def _crosses(draw: random.Random) -> list[dict[str, Any]]:
    rows = []
    for n in range(60):
        parts = [[f"C{k}", _text(draw, ALPHABETS[n % 5], draw.randint(1, 12))] for k in range(2 + n % 3)]
        rows.append(parts)
        if n < 6:
            rows.append(parts[::-1])
            rows.append([*parts[:-1], [parts[-1][0], "" if n % 2 else None]])
    return [{"name": _name(parts), "parts": parts, "hash": _cross(parts)} for parts in rows]


def _name(parts: list[list[str]]) -> str:
    return "×".join(slot for slot, _ in parts)


def _cross(parts: list[list[str]]) -> int:
    if not all(value for _, value in parts):
        return _slot(_name(parts), "")
    return mmh3.hash(b"".join(struct.pack("<i", _slot(slot, value)) for slot, value in parts), SEED)


def _numbers() -> list[dict[str, Any]]:
    near = [x + step for x in EDGES for step in (-1e-7, 0.0, 1e-7)]
    rows = []
    for x in [None, -1e300, -0.0, *near, 1e300]:
        b = -1 if x is None else bisect_right(EDGES, x)
        rows.append({"name": "I1", "value": x, "bucket": b, "hash": _slot("I1", "" if b < 0 else f"b{b}")})
    return [{"edges": EDGES, **row} for row in rows]


def _uniform(purpose: str, seed: int, key: str) -> float:
    first = mmh3.hash64(f"{purpose}{SEPARATOR}{key}", seed, x64arch=True, signed=False)[0]
    return (first >> 11) / 2**53


def _uniforms(draw: random.Random) -> list[dict[str, Any]]:
    purposes, seeds = ("sample", "fold", "boot"), (42, 0, 1, 2**32 - 1)
    given = [
        (purposes[n % 3], seeds[n % 4], _text(draw, ALPHABETS[n % 5], draw.randint(0, 40) if n > LONGEST else n))
        for n in range(LONGEST + 30)
    ]
    return [{"purpose": p, "seed": s, "key": k, "uniform": _uniform(p, s, k)} for p, s, k in given]


def _samples(draw: random.Random) -> list[dict[str, Any]]:
    rows = []
    for n in range(40):
        key, label, rate = (
            f"2026-01-0{n % 9 + 1}/{draw.getrandbits(64):016x}",
            int(n % 8 == 0),
            (0.05, 0.3, 1.0)[n % 3],
        )
        kept = bool(label) or _uniform("sample", SEED, key) < rate
        rows.append({"event_id": key, "label": label, "keep_rate": rate, "seed": SEED, "kept": kept})
    return rows


def _event_ids(draw: random.Random) -> list[dict[str, Any]]:
    rows: list[list[str | None]] = [[""], [None], [None, ""], ["a", "b"], ["ab", ""], ["", "ab"], ["1", None, "ü"]]
    rows += [[_text(draw, ALPHABETS[n % 4], n)] for n in range(LONGEST + 1)]
    rows += [[_text(draw, ALPHABETS[k % 4], draw.randint(0, 9)) for k in range(n)] for n in range(2, 42)]
    return [
        {"fields": row, "id": mmh3.hash_bytes(SEPARATOR.join(field or "" for field in row), SEED).hex()}
        for row in rows
    ]


def _text(draw: random.Random, alphabet: str, length: int) -> str:
    return "".join(draw.choices(alphabet, k=length))


def _lines(rows: list[dict[str, Any]]) -> str:
    return ",\n".join(json.dumps(row, ensure_ascii=True) for row in rows)


if __name__ == "__main__":
    main()
