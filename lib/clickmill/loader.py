"""Rows of one pinned table version as training batches: epochs, shuffled, in equal steps on every rank. No Spark.

    found = tables.shards("sample", days=days, number=1)[0].pieces      # (or reader.plan, without Spark)
    pieces = counted(found, stretch)
    loader = Loader(pieces, Columns(whole=("s_ad",), real=("n_price",)), batch_rows=8192, seed=1, rank=0, size=2)
    for batch in loader.epoch(0):                                       # loader.steps of them, on every rank
        ...                                                             # torch.from_numpy(batch.whole), no copy

An epoch deals every row to one rank, once. The row groups come in an order drawn by (seed, epoch); the ranks get
parts of that sequence whose lengths differ by one row at most, and each shuffles the rows of windows of
`window_rows`, drawn by (seed, epoch, rank, window). So the order hangs on nothing else, whatever is read ahead,
and a run that goes on at a step reads the row groups of one window again and none before it. A rank's last batch
is filled with rows of weight 0.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numba import njit
from numpy.typing import NDArray

from clickmill import reader
from clickmill.errors import InputError, NoRowsError, NotEnoughRowGroupsError
from clickmill.models.logreg import hashes
from clickmill.reader import Piece, Shard
from clickmill.split import Stretch

Int32 = NDArray[np.int32]
Float32 = NDArray[np.float32]

WINDOW_ROWS = 131_072
STRIP, TILE = 2048, 32
"""Rows whose columns are gathered, and then turned, together: so many stay in a core's cache."""


@dataclass(frozen=True)
class Columns:
    """What a batch holds of a row."""

    whole: tuple[str, ...]
    """Columns of whole 32-bit hashes: s_… and x_…."""
    real: tuple[str, ...] = ()
    """Columns of numbers: n_…; NaN where one is missing."""
    weight: str | None = None
    """The column of weights; without one every row weighs 1."""
    carried: tuple[str, ...] = ()
    """Columns handed on as Arrow has them."""

    @property
    def read(self) -> tuple[str, ...]:
        """All that is read from a file."""
        weight = () if self.weight is None else (self.weight,)
        return tuple(dict.fromkeys((*self.whole, *self.real, "label", *weight, *self.carried)))


class Counted(NamedTuple):
    """A row group, and how many of its rows lie within the stretch of time."""

    piece: Piece
    stretch: Stretch | None
    rows: int


class Part(NamedTuple):
    """Rows `first` up to but not `last` of a row group, counted within the stretch."""

    counted: Counted
    first: int
    last: int


class Batch(NamedTuple):
    """b rows, those at the end of a rank's last batch filling it up."""

    step: int
    whole: Int32
    """(b, i), by rows."""
    real: Float32
    """(b, f), by rows; NaN where a number is missing."""
    label: Float32
    """(b,) 0 or 1."""
    weight: Float32
    """(b,); 0 of rows that fill up."""
    rows: int
    """How many are rows of the table."""
    carried: pa.Table
    """(rows,) of the columns asked for."""
    sources: tuple[str, ...]
    """The files and row groups that its rows come from (those of its window)."""


def counted(pieces: Sequence[Piece], stretch: Stretch | None = None, *, threads: int = 8) -> tuple[Counted, ...]:
    """Each row group with its number of rows in the stretch, those without any left out; all, without a stretch.

    Only the times of row groups are read that lie on an end of the stretch.
    """
    if stretch is None:
        return tuple(Counted(piece, None, piece.rows) for piece in pieces if piece.rows)
    with ThreadPoolExecutor(threads) as pool:
        found = pool.map(lambda piece: reader.rows_within(piece, stretch), pieces)
        return tuple(Counted(piece, stretch, rows) for piece, rows in zip(pieces, found, strict=True) if rows)


class Loader:
    """One rank's batches.

    pieces: the same on all ranks (`counted`). batch_rows: of each rank's batches. window_rows: rows that are
    shuffled together, rounded up to whole batches. threads: that decode row groups. ahead: windows made before
    they are asked for. A rank holds about 2 + `ahead` windows and `threads` + 1 row groups. Raises NoRowsError
    where there are no rows, NotEnoughRowGroupsError where there are more ranks than row groups.
    """

    def __init__(
        self,
        pieces: Sequence[Counted],
        columns: Columns,
        *,
        batch_rows: int,
        seed: int,
        rank: int = 0,
        size: int = 1,
        window_rows: int = WINDOW_ROWS,
        threads: int = 1,
        ahead: int = 1,
    ) -> None:
        if not pieces:
            raise NoRowsError("loader: the pinned version has no rows in these days and this stretch of time")
        if size > len(pieces):
            raise NotEnoughRowGroupsError(
                f"loader: {size} ranks and {len(pieces)} row groups ({pieces[0].piece.path}, …), so that some "
                f"would decode the same: train on {len(pieces)} ranks or fewer, or write the table in more files"
            )
        self._pieces, self._columns = tuple(pieces), columns
        self._batch, self._seed, self._rank, self._size = batch_rows, seed, rank, size
        self._window = -(-window_rows // batch_rows) * batch_rows
        self._threads, self._ahead = threads, ahead
        self.rows = sum(one.rows for one in pieces)
        """Of all ranks in an epoch."""
        self.steps = -(-self._bound(1) // batch_rows)
        """Of every rank in an epoch."""

    def epoch(self, number: int, *, first: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from step `first` on; after the rank's last row come batches of weight 0."""
        step, window = first, first * self._batch // self._window
        own = self._own_rows()
        if first * self._batch < own:
            with ThreadPoolExecutor(1) as pool:
                for block in _ahead(pool, self._windows(number, window), self._ahead):
                    for start in range(0, block.rows, self._batch):
                        at = window * (self._window // self._batch) + start // self._batch
                        if at >= step:
                            yield self._cut(block, start, at)
                            step = at + 1
                    window += 1
        while step < self.steps:
            yield self._cut(_Block.empty(self._columns), 0, step)
            step += 1

    def _bound(self, rank: int) -> int:
        """Where a rank's part of an epoch's sequence of rows begins; rank 0 has the longest."""
        return -(-rank * self.rows // self._size)

    def _own_rows(self) -> int:
        return self._bound(self._rank + 1) - self._bound(self._rank)

    def parts(self, number: int, *, skip: int = 0) -> list[Part]:
        """What this rank reads in an epoch, in order, but for its first `skip` rows."""
        order = np.random.default_rng([self._seed, number, 0]).permutation(len(self._pieces))
        begin, end = self._bound(self._rank) + skip, self._bound(self._rank + 1)
        found, before = [], 0
        for place in order:
            one = self._pieces[place]
            first, last = max(begin - before, 0), min(end - before, one.rows)
            if first < last:
                found.append(Part(one, first, last))
            before += one.rows
        return found

    def _windows(self, number: int, first: int) -> Iterator[_Block]:
        """The windows of an epoch from the one of number `first` on, each shuffled."""
        left = self._own_rows() - first * self._window
        held: deque[pa.RecordBatch] = deque()
        rows, window, sources = 0, first, deque[tuple[str, int]]()
        parts = self.parts(number, skip=first * self._window)
        wholes, reals = len(self._columns.whole), len(self._columns.real)
        turners = (_Turner(wholes, self._window, np.int32), _Turner(reals, self._window, np.float32))
        with ThreadPoolExecutor(self._threads) as pool:
            for part, batches in zip(parts, _decoded(pool, parts, self._columns, self._threads), strict=True):
                name = f"{part.counted.piece.path}, row group {part.counted.piece.row_group}"
                for batch in batches:
                    held.append(batch)
                    sources.append((name, batch.num_rows))
                    rows += batch.num_rows
                    while rows >= min(self._window, left) > 0:
                        wanted = min(self._window, left)
                        names = _taken(sources, wanted)
                        key = [self._seed, number, 1, self._rank, window]
                        rng = np.random.default_rng(key)
                        yield _block(_first(held, wanted), self._columns, turners, rng, names)
                        rows, left, window = rows - wanted, left - wanted, window + 1
        if left:
            raise InputError(
                f"loader: {left} rows fewer were read than were counted: the table's files have changed"
            )

    def _cut(self, block: _Block, start: int, step: int) -> Batch:
        """A batch, filled up with rows of weight 0."""
        rows = max(min(self._batch, block.rows - start), 0)
        if rows == self._batch:
            cut = slice(start, start + rows)
            own = (block.whole[cut], block.real[cut], block.label[cut], block.weight[cut])
        else:
            own = tuple(
                np.concatenate((part[start:], np.zeros((self._batch - rows, *part.shape[1:]), part.dtype)))
                for part in (block.whole, block.real, block.label, block.weight)
            )  # type: ignore[assignment]
        return Batch(step, *own, rows, block.carried.slice(start, rows), block.sources)


class _Block(NamedTuple):
    """A shuffled window."""

    whole: Int32
    real: Float32
    label: Float32
    weight: Float32
    carried: pa.Table
    sources: tuple[str, ...]

    @property
    def rows(self) -> int:
        return len(self.label)

    @classmethod
    def empty(cls, columns: Columns) -> _Block:
        nothing = np.empty(0, np.float32)
        whole, real = np.empty((0, len(columns.whole)), np.int32), np.empty((0, len(columns.real)), np.float32)
        return cls(whole, real, nothing, nothing, pa.table({name: [] for name in columns.carried}), ())


def _decoded(
    pool: ThreadPoolExecutor, parts: Sequence[Part], columns: Columns, threads: int
) -> Iterator[list[pa.RecordBatch]]:
    """The rows of each part, in order; so many are decoded at once, and one more waits."""
    waiting: deque[Future[list[pa.RecordBatch]]] = deque()
    for part in parts:
        waiting.append(pool.submit(_rows_of, part, columns))
        if len(waiting) > threads:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _rows_of(part: Part, columns: Columns) -> list[pa.RecordBatch]:
    found, before = [], 0
    batches = reader.read(Shard((part.counted.piece,)), columns=columns.read, stretch=part.counted.stretch)
    for batch in batches:
        first, last = max(part.first - before, 0), min(part.last - before, batch.num_rows)
        before += batch.num_rows
        if first < last:
            found.append(batch.slice(first, last - first))
        if before >= part.last:
            break
    return found


def _ahead(pool: ThreadPoolExecutor, blocks: Iterator[_Block], number: int) -> Iterator[_Block]:
    """The blocks, `number` of them made before they are asked for."""
    waiting = deque(pool.submit(next, blocks, None) for _ in range(number + 1))
    try:
        while (block := waiting.popleft().result()) is not None:
            yield block
            waiting.append(pool.submit(next, blocks, None))
    finally:
        for one in waiting:
            one.cancel()


def _first(held: deque[pa.RecordBatch], rows: int) -> list[pa.RecordBatch]:
    """Takes so many rows out of the batches held."""
    found = []
    while rows:
        batch = held.popleft()
        if batch.num_rows > rows:
            held.appendleft(batch.slice(rows))
            batch = batch.slice(0, rows)
        found.append(batch)
        rows -= batch.num_rows
    return found


def _taken(sources: deque[tuple[str, int]], rows: int) -> tuple[str, ...]:
    """The names of where so many rows come from, which are taken off."""
    names: dict[str, None] = {}
    while rows:
        name, number = sources.popleft()
        if number > rows:
            sources.appendleft((name, number - rows))
        names[name] = None
        rows -= min(number, rows)
    return tuple(names)


class _Turner:
    """Columns → rows, in memory that is used again for each window."""

    def __init__(self, columns: int, rows: int, kind: type) -> None:
        self._strip: NDArray[Any] = np.empty((columns, STRIP), kind)
        self._rows: NDArray[Any] = np.empty((rows, columns), kind)

    def shuffled(self, pieces: Iterable[Sequence[NDArray[Any]]], order: NDArray[np.int64]) -> NDArray[Any]:
        """(n, k) of the k columns of each piece, the pieces' rows one after the other and then in this order."""
        at = 0
        for columns in pieces:
            rows = len(columns[0]) if columns else 0
            for begin in range(0, rows, STRIP):
                end = min(begin + STRIP, rows)
                for own, column in zip(self._strip, columns, strict=True):
                    own[: end - begin] = column[begin:end]
                _transpose(self._strip[:, : end - begin], self._rows[at + begin : at + end])
            at += rows
        # Whole rows are moved at random four times as fast as single values.
        return self._rows[: len(order)].take(order, axis=0)


def _block(
    batches: list[pa.RecordBatch],
    columns: Columns,
    turners: tuple[_Turner, _Turner],
    rng: np.random.Generator,
    names: tuple[str, ...],
) -> _Block:
    """The rows of a window, shuffled. Raises MissingColumnsError, InputError."""
    rows = sum(batch.num_rows for batch in batches)
    order = rng.permutation(rows)
    label = np.concatenate([_label(batch, names) for batch in batches])[order]
    weight = np.ones(rows, np.float32)
    if columns.weight is not None:
        weight = np.concatenate([_real(batch, columns.weight) for batch in batches])[order]
    whole = turners[0].shuffled(([hashes(batch, name) for name in columns.whole] for batch in batches), order)
    real = turners[1].shuffled(([_real(batch, name) for name in columns.real] for batch in batches), order)
    carried = pa.table({})
    if columns.carried:
        carried = pa.Table.from_batches([batch.select(columns.carried) for batch in batches]).take(order)
    return _Block(whole, real, label, weight, carried, names)


def _label(batch: pa.RecordBatch, names: tuple[str, ...]) -> Float32:
    label = batch.column("label").to_numpy(zero_copy_only=False)  # (floats, where some are null)
    if not ((label == 0) | (label == 1)).all():
        raise InputError(f"{', '.join(names)}: a label is neither 0 nor 1")
    return np.asarray(label, np.float32)


def _real(batch: pa.RecordBatch, name: str) -> Float32:
    """(n,); NaN for null, and the largest number for an infinite one, as where they are scored."""
    values = batch.column(name).cast(pa.float32())
    valid, bits = values.buffers()
    known = np.frombuffer(valid, np.uint8) if values.null_count else np.empty(0, np.uint8)
    out = np.empty(len(values), np.int32)
    _bounded(np.frombuffer(bits, np.int32), known, values.offset, out)
    return out.view(np.float32)


@njit(cache=True, nogil=True)
def _bounded(bits, known, offset, out):  # type: ignore[no-untyped-def]
    """The bits of numbers; `known`: Arrow's bits of those that are no null, empty where none is."""
    for i in range(len(out)):
        x = bits[offset + i]
        out[i] = x - np.int32((x & np.int32(0x7FFFFFFF)) == np.int32(0x7F800000))
    if len(known):
        for i in range(len(out)):
            at = offset + i
            out[i] |= np.int32((known[at >> 3] >> np.uint8(at & 7)) & np.uint8(1)) - np.int32(1)


@njit(cache=True, nogil=True)
def _transpose(source, out):  # type: ignore[no-untyped-def]
    for begin in range(0, source.shape[1], TILE):
        end = min(begin + TILE, source.shape[1])
        for j in range(source.shape[0]):
            for i in range(begin, end):
                out[i, j] = source[j, i]
