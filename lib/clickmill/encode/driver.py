"""features → encodings on Spark."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from functools import partial

from clickmill.config import Config
from clickmill.encode import worker
from clickmill.models.logreg import hash_columns
from clickmill.tables import ByWorkers, Tables


def count_values(tables: Tables, cfg: Config, days: Sequence[date]) -> ByWorkers:
    """The rows of `encodings` of these days, counted on all of their features, at full traffic.

    A column's day is put together by one worker; the driver sees no value.
    """
    columns, period = hash_columns(cfg.encodings, cfg.dataset), cfg.encodings.period
    rows = tables.scan("features", ["event_time", "label", "ds", *columns], days=days)
    parcels = rows.through(partial(worker.count, columns=columns, period=period), worker.PARCELS).rows()
    return ByWorkers(parcels.repartition("slot"), partial(worker.merge, period=period), worker.ENCODINGS)


def write_histories(tables: Tables, cfg: Config, days: Sequence[date], folder: str) -> tuple[str, ...]:
    """Writes what the pinned `encodings` of these days say of each column's values under `folder`; the columns.

    A column is put together by one worker, and looked up by `encoding.History.open`.
    """
    period = cfg.encodings.period
    rows = tables.scan("encodings", worker.ENCODINGS.names, days=days)
    parcels = rows.through(partial(worker.by_slot, period=period), worker.PARCELS).rows().repartition("slot")
    write = partial(worker.histories, folder=folder)
    return tuple(row["slot"] for row in parcels.mapInArrow(write, "slot string").collect())
