"""What a network eats and where its rows lie: enough to read columns and to count memory. No torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

from clickmill.dataset import Dataset
from clickmill.errors import ConfigError
from clickmill.specs import Embedding, WideDeepSpec, chosen

FLOAT = 4
"""Bytes of a number in tables and their state."""
ALIGNED = 16
"""A multiple of so many numbers is a row of the deep part's input: whole cache lines."""
PIECE = (128, 512)
"""Rows that go through a network's layers together on a CPU, at least and at most: what they become stays in a
core's cache, and a batch is enough for a few threads."""


class Table(NamedTuple):
    """Rows of one width, of all slots that have it: slot `slots[i]` of the layout reads row
    (hash & `mask[i]`) + `offset[i]` and puts it at column `column[i]` of the deep part's input."""

    dim: int
    rows: int
    slots: tuple[int, ...]
    offset: tuple[int, ...]
    mask: tuple[int, ...]
    column: tuple[int, ...]
    group: tuple[int, ...]
    """Slots of equal group have equal rows."""


@dataclass(frozen=True)
class Layout:
    """Columns of `features` and the tables that their values are looked up in."""

    slots: tuple[str, ...]
    """Columns of hashes that are embedded: s_…, none of them a number's bucket."""
    dims: tuple[int, ...]
    """(slots,) width of each one's rows."""
    bits: tuple[int, ...]
    """(slots,) its rows are indexed by so many of a hash's lowest bits."""
    groups: tuple[int, ...]
    """(slots,) those of equal number share their rows; numbered from 0 in order."""
    numbers: tuple[str, ...]
    """Columns of numbers that the deep part eats: n_…"""
    wide: tuple[str, ...]
    """Columns of hashes of the wide part: slots, buckets of numbers, crosses. None without such a part."""
    wide_bits: int
    rows_per_value: int

    @cached_property
    def whole(self) -> tuple[str, ...]:
        """All columns of hashes, each once, in the order in which a batch has them; the slots first."""
        return tuple(dict.fromkeys((*self.slots, *self.wide)))

    @cached_property
    def wide_places(self) -> tuple[int, ...]:
        """Where the wide part's columns stand in `whole`."""
        return tuple(self.whole.index(column) for column in self.wide)

    @cached_property
    def tables(self) -> tuple[Table, ...]:
        """One for each width, narrow ones first."""
        return tuple(self._table(dim) for dim in sorted(set(self.dims)))

    @cached_property
    def width(self) -> int:
        """Numbers that a row of the deep part's input has: embeddings, numbers, and a flag for each number."""
        return sum(self.dims) + 2 * len(self.numbers)

    def bytes(self, optimizer: Literal["adagrad", "adam"] = "adagrad") -> int:
        """Memory of a rank's tables and of what its optimisers know of each row (hidden layers are small)."""
        known = {"adagrad": 0, "adam": 1}[optimizer]
        deep = sum(table.rows * ((1 + known) * table.dim + 2) for table in self.tables)  # (state, mark)
        return FLOAT * (deep + (4 << self.wide_bits if self.wide else 0))  # (weight, z, n, mark)

    def packed(self) -> int:
        """Memory that the driver needs at most while it makes an artifact of the weights: all of them once, and of
        a wide part that has no weight 0 the indices and the file, five times its weights."""
        deep = sum(table.rows * table.dim for table in self.tables)
        return FLOAT * (deep + (5 << self.wide_bits if self.wide else 0))

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Layout:
        return cls.of(json.loads(text))

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Layout:
        """From what `asdict` gives, lists or tuples."""
        plain: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in fields.items()}
        return cls(**plain)

    def _table(self, dim: int) -> Table:
        own = tuple(place for place, width in enumerate(self.dims) if width == dim)
        begin: dict[int, int] = {}
        rows = 0
        for place in own:
            if self.groups[place] not in begin:
                begin[self.groups[place]] = rows
                rows += 1 << self.bits[place]
        return Table(
            dim,
            rows,
            own,
            tuple(begin[self.groups[place]] for place in own),
            tuple((1 << self.bits[place]) - 1 for place in own),
            tuple(sum(self.dims[:place]) for place in own),
            tuple(self.groups[place] for place in own),
        )


def layout_of(spec: WideDeepSpec, dataset: Dataset, bits: Mapping[str, int]) -> Layout:
    """The layout of the columns that a spec asks for.

    bits: slot → bits of its table, of every slot that is embedded; of slots that share a table the most count.
    Raises ConfigError where such slots have different widths, or where the spec leaves nothing to eat.
    """
    slots = chosen(spec.columns.slots, dataset.slots)
    numbers = chosen(spec.columns.numbers, dataset.numbers)
    crosses = chosen(spec.columns.crosses, dataset.crosses)
    if not slots and not numbers:
        raise ConfigError("columns: a network needs at least one slot or number")
    groups = _groups(spec.embedding, slots)
    dims = [spec.embedding.dims.get(slot, spec.embedding.dim) for slot in slots]
    most = [max(bits[slot] for slot, group in zip(slots, groups, strict=True) if group == own) for own in groups]
    for group in set(groups):
        shared = [(slot, dim) for slot, own, dim in zip(slots, groups, dims, strict=True) if own == group]
        if len({dim for _, dim in shared}) > 1:
            raise ConfigError(f"embedding.dims: slots that share a table have one width, found {dict(shared)}")
    wide = (f"s_{name}" for name in (*slots, *numbers)), ("x_" + "_".join(cross) for cross in crosses)
    return Layout(
        tuple(f"s_{slot}" for slot in slots),
        tuple(dims),
        tuple(most),
        groups,
        tuple(f"n_{number}" for number in numbers),
        (*wide[0], *wide[1]) if spec.arch == "wide_deep" else (),
        spec.wide_bits,
        spec.embedding.rows_per_value,
    )


def _groups(embedding: Embedding, slots: Sequence[str]) -> tuple[int, ...]:
    names = {slot: f"share {place}" for place, group in enumerate(embedding.share) for slot in group}
    order = list(dict.fromkeys(names.get(slot, f"slot {slot}") for slot in slots))
    return tuple(order.index(names.get(slot, f"slot {slot}")) for slot in slots)
