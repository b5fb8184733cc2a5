"""Makes vectors.json from mmh3 and Python alone, never from clickmill: `python tests/golden/make_vectors.py`.

For teams that serve in other languages: each entry says what goes in and what must come out.
"""

from __future__ import annotations

import json
import random
import struct
from pathlib import Path

import mmh3

SEED = 42
ALPHABET = "abcXYZ019 _-=|,\"'äß€漢字😀\u001f\t"


def slot(name: str, value: str) -> int:
    return mmh3.hash(f"{name}={value}", SEED)


def cross(parts: list[tuple[str, str]]) -> int:
    if any(value == "" for _, value in parts):
        return slot("×".join(name for name, _ in parts), "")
    return mmh3.hash(b"".join(struct.pack("<i", slot(name, value)) for name, value in parts), SEED)


def bucket(x: float | None, edges: list[float]) -> str:
    return "" if x is None else f"b{sum(edge <= x for edge in edges)}"


def uniform(purpose: str, seed: int, key: str) -> float:
    return (mmh3.hash64(f"{purpose}\x1f{key}", seed, signed=False)[0] >> 11) / 2**53


def main() -> None:
    rng = random.Random(20260101)
    texts = ["".join(rng.choice(ALPHABET) for _ in range(length)) for length in range(71)]
    texts += ["x" * length for length in range(20)] + ["漢" * length for length in range(1, 9)]
    slots = [{"slot": name, "value": t, "hash": slot(name, t)} for t in texts for name in ("C1", "site_id")]
    crosses = []
    for width in (2, 3, 4):
        for _ in range(20):
            parts = [(f"S{i}", rng.choice(texts)) for i in range(width)]
            crosses.append({"parts": parts, "hash": cross(parts)})
    crosses.append({"parts": [("a", ""), ("b", "x")], "hash": cross([("a", ""), ("b", "x")])})
    edges = [-10.0, -1.0, 0.0, 0.5, 1.0, 2.0, 10.0, 1000.0]
    numbers = [
        {"name": "I1", "x": x, "edges": edges, "bucket": bucket(x, edges), "hash": slot("I1", bucket(x, edges))}
        for x in [
            None,
            -1e9,
            -10.0,
            -9.99,
            -1.0,
            -0.0,
            0.0,
            0.49,
            0.5,
            1.0,
            1.5,
            2.0,
            9.9,
            10.0,
            999.9,
            1000.0,
            1e12,
        ]
    ]
    keys = [
        {"purpose": p, "seed": s, "key": k, "uniform": uniform(p, s, k)}
        for p in ("sample", "fold", "boot")
        for s in (0, 42, 4294967295)
        for k in ("", "a", "event-17", "漢字", *texts[30:34])
    ]
    rows = [[rng.choice(texts) for _ in range(rng.randrange(1, 6))] for _ in range(30)]
    ids = [{"fields": row, "event_id": mmh3.hash_bytes("\x1f".join(row), SEED).hex()} for row in rows]
    vectors = {"slots": slots, "crosses": crosses, "numbers": numbers, "uniforms": keys, "event_ids": ids}
    path = Path(__file__).with_name("vectors.json")
    path.write_text(json.dumps(vectors, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
