"""Why nothing of a row's own day is counted: an encoder that does looks better in training, and is worse later."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from trees import Held

from clickmill.calibration import expit
from clickmill.encoding import Counts, Encoded, History, encode
from clickmill.metrics import log_loss
from clickmill.models.trees import booster_from
from clickmill.models.xgboost import Inputs
from clickmill.train.ring import SoloRing
from clickmill.train.xgboost.worker import Task, fit

NAMES = ("e_ad_impressions", "e_ad_clicks", "e_ad_rate")
DAYS, ROWS, ADS = 12, 3000, 2500


class Log:
    """Days of rows whose chance of a click is that of their ad; an ad is seen about once a day."""

    def __init__(self) -> None:
        rng = np.random.default_rng(4)
        truth = expit(rng.normal(-2.0, 0.7, ADS))
        self.hashes = rng.integers(0, ADS, DAYS * ROWS).astype(np.int32)
        self.day = np.repeat(np.arange(DAYS, dtype=np.int32), ROWS)
        self.label = (rng.random(DAYS * ROWS) < truth[self.hashes]).astype(np.int8)
        self.history = History.of(Counts.of(self.hashes, self.day, self.label))

    def rows(self, days: range, *, leaky: bool) -> pa.RecordBatch:
        """Encoded by the seven days before each row's own; leaky: by its own and the six before it."""
        own = np.isin(self.day, days)
        until = self.day[own] + np.int32(leaky)
        found: Encoded = encode(self.history, self.hashes[own], until, window=7, strength=20.0)
        columns = dict(zip(NAMES, found, strict=True)) | {"label": self.label[own]}
        rows = int(own.sum())
        return pa.RecordBatch.from_pydict(columns | {"weight": np.ones(rows), "keep_rate": np.ones(rows)})


class Eaten(Held):
    def validation(self) -> list[pa.RecordBatch]:
        return [batch.select([*NAMES, "label"]) for batch in self._validation]


def test_a_leak_looks_better_in_training_and_is_worse_on_test_time() -> None:
    from trees import spec

    log, losses = Log(), {}
    test = log.rows(range(11, 12), leaky=False)  # (nobody knows a day's labels while it is served)
    for leaky in (True, False):
        training = log.rows(range(7, 11), leaky=leaky)
        task = Task(spec(rounds=30, max_depth=3, eta=0.1), Inputs(NAMES))
        fitted = fit(Eaten([training], []), SoloRing(), task)
        margins = booster_from(fitted.booster).inplace_predict(Inputs(NAMES).matrix(test), predict_type="margin")
        losses[leaky] = fitted.figures["train_log_loss"], log_loss(test["label"].to_numpy(), expit(margins))
    base = log_loss(test["label"].to_numpy(), np.full(ROWS, log.label[log.day < 11].mean()))
    assert losses[True][0] < losses[False][0] - 0.01
    assert losses[True][1] > losses[False][1] + 0.01
    assert losses[False][1] < base < losses[True][1]
