"""features → encodings on Spark."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from functools import partial

from clickmill.config import Config
from clickmill.encode import worker
from clickmill.histories.worker import PARCELS
from clickmill.models.logreg import hash_columns
from clickmill.tables import ByWorkers, Tables


def count_values(tables: Tables, cfg: Config, days: Sequence[date]) -> ByWorkers:
    """The rows of `encodings` of these days, counted on all of their features, at full traffic.

    A column's day is put together by one worker; the driver sees no value.
    """
    columns, period = hash_columns(cfg.encodings, cfg.dataset), cfg.encodings.period
    rows = tables.scan("features", ["event_time", "label", "ds", *columns], days=days)
    parcels = rows.through(partial(worker.count, columns=columns, period=period), PARCELS).rows()
    return ByWorkers(parcels.repartition("slot"), partial(worker.merge, period=period), worker.ENCODINGS)
