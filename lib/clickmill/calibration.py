"""From what a model says on a sample to a probability at full traffic: prior correction, then a calibrator.

The whole path is `p = calibrator.apply(prior_correction(p_sampled, keep_rate))`; a model trained with
weights (`correction: weight`) skips the prior correction. Needs numpy alone, so that `score` does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from clickmill.errors import ArtifactError, KeepRateError
from clickmill.metrics import CLIP, check_probabilities

Array = npt.NDArray[np.float64]
Method = Literal["none", "platt", "isotonic"]
METHODS: tuple[Method, ...] = ("none", "platt", "isotonic")
"""From the simplest to the most flexible."""


def prior_correction(p_sampled: npt.ArrayLike, keep_rate: float) -> Array:
    """p = p_sampled / (p_sampled + (1 − p_sampled) / w): undoes keeping a share w of the non-clicks.

    p_sampled: probabilities in [0, 1] of any shape; keep_rate: w in (0, 1]. Rises with p_sampled, gives
    0 at 0 and 1 at 1, and returns p_sampled itself, bit for bit, at w = 1. It adds ln w to the logit.
    Raises InvalidProbabilityError, KeepRateError.

    Elkan, The Foundations of Cost-Sensitive Learning, IJCAI 2001; He et al., ADKDD 2014. It is often
    printed with (1 − p)·s, which holds only where s means 1/w: with s = w it moves p the wrong way.
    """
    if not 0 < keep_rate <= 1:
        raise KeepRateError(f"the keep rate of non-clicks must be in (0, 1]; found {keep_rate}")
    p = np.array(p_sampled, np.float64)
    check_probabilities(p, "p_sampled")
    if keep_rate == 1:
        return p
    # Written so that every rounded step rises or falls with p: the textbook form loses order in the last bit.
    with np.errstate(divide="ignore", over="ignore"):
        return np.asarray(1 / (1 + (1 - p) / p / keep_rate))


def logit(p: npt.ArrayLike) -> Array:
    """ln(p / (1 − p)) of p clipped to [1e-15, 1 − 1e-15], so within ±34.6."""
    clipped = np.clip(np.asarray(p, np.float64), CLIP, 1 - CLIP)
    return np.asarray(np.log(clipped) - np.log1p(-clipped))


def expit(z: npt.ArrayLike) -> Array:
    """1 / (1 + e^−z) kept within [1e-15, 1 − 1e-15]: never 0, never 1."""
    bounded = np.clip(np.asarray(z, np.float64), -40, 40)
    return np.clip(1 / (1 + np.exp(-bounded)), CLIP, 1 - CLIP)


def logistic(margins: Array) -> Array:
    """1 / (1 + e^−m) for margins of any size; 0 and 1 where that is the nearest number."""
    with np.errstate(over="ignore"):
        return np.asarray(1.0 / (1.0 + np.exp(-margins)), np.float64)


@dataclass(frozen=True)
class Calibrator:
    """A rising function from p to p, learnt on validation time.

    none: p itself. platt: logit p → slope·logit p + shift, slope > 0 (Platt 1999). isotonic: logit p
    through the straight lines between `knots` and `values` (both on the logit scale, rising), and
    beyond the ends in parallel to the diagonal, so that it never says 0 or 1 and keeps the ranking
    (centred isotonic regression, Oron and Flournoy 2017).
    """

    method: Method = "none"
    slope: float = 1.0
    shift: float = 0.0
    knots: tuple[float, ...] = ()
    values: tuple[float, ...] = ()

    def apply(self, p: npt.ArrayLike) -> Array:
        """Calibrated probabilities of the shape of p. Raises InvalidProbabilityError."""
        given = np.array(p, np.float64)
        check_probabilities(given)
        return given if self.method == "none" else expit(self.on_logits(logit(given)))

    def on_logits(self, z: Array) -> Array:
        """The calibrated logits of logits z."""
        if self.method == "none":
            return z
        if self.method == "platt":
            return self.slope * z + self.shift
        knots, values = np.array(self.knots), np.array(self.values)
        inside = np.clip(z, knots[0], knots[-1])
        return np.asarray(np.interp(inside, knots, values) + (z - inside))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: what the method needs and nothing else."""
        if self.method == "platt":
            return {"method": self.method, "slope": self.slope, "shift": self.shift}
        if self.method == "isotonic":
            return {"method": self.method, "knots": list(self.knots), "values": list(self.values)}
        return {"method": self.method}

    @classmethod
    def from_dict(cls, written: dict[str, Any]) -> Calibrator:
        """The calibrator that `to_dict` wrote. Raises ArtifactError where it is no such thing."""
        method = written.get("method")
        try:
            if method == "none":
                return cls()
            if method == "platt":
                return cls("platt", slope=float(written["slope"]), shift=float(written["shift"]))
            if method == "isotonic":
                knots, values = (tuple(float(x) for x in written[key]) for key in ("knots", "values"))
                if len(knots) == len(values) and knots and _rises(knots) and _rises(values):
                    return cls("isotonic", knots=knots, values=values)
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"calibrator {written}: cannot be read: {error!r}") from None
        raise ArtifactError(f"calibrator {written}: expected one of {', '.join(METHODS)} with its parameters")


def _rises(values: tuple[float, ...]) -> bool:
    return bool(np.all(np.diff(values) >= 0) and np.all(np.isfinite(values)))
