"""XGBoost's own library, loaded without what it would bring along, and its trees from bytes."""

from __future__ import annotations

import json
import math
import sys
from types import ModuleType
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from xgboost import Booster


def import_xgboost() -> None:
    """Without what it would load for its estimators, scikit-learn and pandas: a worker starts 2 s earlier."""
    if "xgboost" in sys.modules or "sklearn" in sys.modules:
        return
    sys.modules["sklearn"] = cast(ModuleType, None)  # as if it were not installed
    try:
        import xgboost  # noqa: F401
    finally:
        del sys.modules["sklearn"]


def booster_from(content: bytes) -> Booster:
    """The trees that `Booster.save_raw("ubj")` gave; one thread. Raises ValueError where they are none."""
    import_xgboost()
    from xgboost import Booster

    return Booster({"nthread": 1, "verbosity": 0}, model_file=bytearray(content))


def moved(trees: bytes, shift: float) -> bytes:
    """The same trees with `shift` added to every margin: those of a sample at another keep rate."""
    content = json.loads(bytes(booster_from(trees).save_raw("json")))
    parameters = content["learner"]["learner_model_param"]
    (q,) = json.loads(parameters["base_score"])
    odds = q / (1 - q) * math.exp(shift)
    parameters["base_score"] = f"[{odds / (1 + odds)!r}]"
    return bytes(booster_from(json.dumps(content).encode()).save_raw("ubj"))
