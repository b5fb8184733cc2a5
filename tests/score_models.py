"""A small trained model with its calibration on disk, and rows for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from clickmill.calibration import Calibrator
from clickmill.dataset import Dataset
from clickmill.hashing import hash_cross, hash_number, hash_slot, to_index
from clickmill.models import artifact
from clickmill.models.card import Card

BITS = 18
EDGES = [0.0, 1.0, 10.0]
SITES, ADS = [f"s{n}" for n in range(20)], [f"a{n}" for n in range(30)]
PLATT = Calibrator("platt", slope=0.9, shift=-0.1)


def dataset(**changed: Any) -> Dataset:
    values = {
        "name": "shop",
        "source": {"path": "x", "format": "tsv", "columns": ["click", "at", "site", "ad", "price", "other"]},
        "label": "click",
        "event_time": {"kind": "column", "column": "at"},
        "slots": ["site", "ad", "other"],
        "numbers": ["price"],
        "crosses": [["site", "ad"]],
    }
    return Dataset.model_validate({**values, **changed})


def weights() -> dict[int, float]:
    """Index → weight: every value of site, ad, price and site×ad has one, of a known generator."""
    sites, ads = hash_slot("site", ["", *SITES]), hash_slot("ad", ["", *ADS])
    every_site, every_ad = (grid.ravel() for grid in np.meshgrid(sites, ads))
    crossed = hash_cross("site×ad", [("site", every_site), ("ad", every_ad)])
    prices = hash_number("price", np.array([np.nan, -1.0, 0.5, 5.0, 50.0]), EDGES)
    index = np.unique(to_index(np.concatenate([sites, ads, crossed, prices]), BITS))
    return dict(zip(index.tolist(), np.random.default_rng(5).normal(0, 0.4, len(index)), strict=True))


def save_model(
    root: Path,
    *,
    data: Dataset | None = None,
    keep_rate: float | None = 0.1,
    correction: str = "prior",
    calibrator: Calibrator | None = PLATT,
    intercept: float = -1.0,
) -> Path:
    """Writes the artifact (and calibration.json) and returns the folder of its model id."""
    columns = {"slots": ["site", "ad"]}  # `other` is in the log, but the model does not eat it
    card = Card(
        model_id="lr-2026-01-10-0123abcd",
        name="lr",
        kind="logreg",
        keep_rate=keep_rate,
        correction=correction,
        spec={"kind": "logreg", "bits": BITS, "columns": columns, "correction": correction},
        dataset=(data or dataset()).model_dump(mode="json"),
        edges=EDGES,
        seed=42,
        stretches={},
        tables={"sample": 3},
        training={},
        created_by="0",
    )
    weight = weights()
    arrays = {
        "index": np.array(list(weight), np.uint32),
        "weight": np.array(list(weight.values())),
        "unseen": np.zeros(4),
        "intercept": np.array([intercept]),
    }
    saved = artifact.save(str(root), card, arrays)
    folder = root / card.model_id
    if calibrator is not None:
        write_calibration(folder / "calibration.json", calibrator, digest=saved.digest)
    return folder


def write_calibration(place: Path, calibrator: Calibrator, *, digest: str) -> None:
    place.write_text(json.dumps({"calibrator": calibrator.to_dict(), "artifact": digest}), encoding="utf-8")


def expected(site: str, ad: str, price: float | None, *, keep_rate: float = 0.1, calibrator: Calibrator = PLATT):
    """(p_sampled, p) of one row, by the formulas and nothing else."""
    weight = weights()
    h_site, h_ad = hash_slot("site", [site]), hash_slot("ad", [ad])
    h_price = hash_number("price", np.array([np.nan if price is None else price]), EDGES)
    h_cross = hash_cross("site×ad", [("site", h_site), ("ad", h_ad)])
    margin = -1.0 + sum(weight.get(int(to_index(h, BITS)[0]), 0.0) for h in (h_site, h_ad, h_price, h_cross))
    p_sampled = 1 / (1 + np.exp(-margin))
    p = p_sampled / (p_sampled + (1 - p_sampled) / keep_rate)
    z = calibrator.slope * np.log(p / (1 - p)) + calibrator.shift
    return p_sampled, 1 / (1 + np.exp(-z))


def rows(n: int, seed: int = 1) -> list[tuple[str, str, str]]:
    """(site, ad, price) as the log writes them; a tenth of each is missing."""
    random = np.random.default_rng(seed)
    texts = [
        random.choice(np.array(["", *values], object), n)
        for values in (SITES, ADS, ["-1", "0.5", "5", "50", "1e1"])
    ]
    return list(zip(*texts, strict=True))


def lines(n: int, *, label: bool = False) -> str:
    """The rows as TSV without header."""
    start = "0\t-" if label else "-"
    return "".join(f"{start}\t{site}\t{ad}\t{price}\tx\n" for site, ad, price in rows(n))
