"""What the tables of a warehouse hold now, read without Spark: a look takes 0.05 s, not 2."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable


def table(warehouse: str | Path, name: str) -> pa.Table:
    """The newest rows; the columns in the order of their names."""
    found = DeltaTable(f"{warehouse}/{name}").to_pyarrow_table()
    return found.select(sorted(found.column_names))


def rows(warehouse: str | Path, name: str, *, without: Collection[str] = ()) -> list[dict[str, Any]]:
    """The newest rows in an order that hangs on nothing but their content."""
    found = table(warehouse, name)
    found = found.select([column for column in found.column_names if column not in without])
    return sorted(found.to_pylist(), key=str)


def version(warehouse: str | Path, name: str) -> int:
    """The newest version."""
    return DeltaTable(f"{warehouse}/{name}").version()
