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

from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
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
Empty = Callable[..., NDArray[Any]]

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


class Origin(NamedTuple):
    """Where rows of a window stood before they were shuffled."""

    places: NDArray[np.int64]
    starts: tuple[int, ...]
    """The places at which the rows of each row group begin, rising."""
    names: tuple[str, ...]
    """Of those row groups."""


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
    origin: Origin

    def sources(self, rows: NDArray[np.int64]) -> tuple[str, ...]:
        """The files and row groups that these of its rows come from."""
        return tuple(self.origin.names[at] for at in np.unique(self._groups(rows)))

    def source_of_each(self, rows: NDArray[np.int64]) -> tuple[str, ...]:
        """The same, row by row."""
        return tuple(self.origin.names[at] for at in self._groups(rows))

    def _groups(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.searchsorted(self.origin.starts, self.origin.places[rows], side="right") - 1


def counted(pieces: Sequence[Piece], stretch: Stretch | None = None, *, threads: int = 8) -> tuple[Counted, ...]:
    """Each row group with its number of rows in the stretch, those without any left out; all, without a stretch.

    Only the times of row groups are read that lie on an end of the stretch.
    """
    if stretch is None:
        return tuple(Counted(piece, None, piece.rows) for piece in pieces if piece.rows)
    with ThreadPoolExecutor(threads) as pool:
        found = pool.map(lambda piece: reader.rows_within(piece, stretch), pieces)
        return tuple(Counted(piece, stretch, rows) for piece, rows in zip(pieces, found, strict=True) if rows)


def pinned(shape: int | tuple[int, int], kind: type) -> NDArray[Any]:
    """Memory that a GPU copies from by itself."""
    import torch

    own = torch.from_numpy(np.empty(0, kind)).dtype
    array: NDArray[Any] = torch.empty(shape, dtype=own, pin_memory=True).numpy()
    return array


class Loader:
    """One rank's batches.

    pieces: the same on all ranks (`counted`). batch_rows: of each rank's batches, if it has so many
    in an epoch. window_rows: rows that are shuffled together, rounded up to whole batches. threads: that decode
    row groups. ahead: windows made before they are asked for. empty: makes the memory of batches, (shape, type)
    → array, such as `pinned`. A rank holds about 2 + `ahead` windows, and 65,536 decoded rows a thread. Raises
    NoRowsError where there are no rows, NotEnoughRowGroupsError where there are more ranks than row groups.
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
        empty: Empty = np.empty,
    ) -> None:
        if not pieces:
            raise NoRowsError("loader: the pinned version has no rows in these days and this stretch of time")
        if size > len(pieces):
            raise NotEnoughRowGroupsError(
                f"loader: {size} ranks and {len(pieces)} row groups ({pieces[0].piece.path}, …), so that some "
                f"would decode the same: train on {len(pieces)} ranks or fewer, or write the table in more files"
            )
        self._pieces, self._columns = tuple(pieces), columns
        self._seed, self._rank, self._size = seed, rank, size
        self._threads, self._ahead, self._empty = threads, ahead, empty
        self.rows = sum(one.rows for one in pieces)
        """Of all ranks in an epoch."""
        self._batch = min(batch_rows, self._bound(1))
        self._window = -(-window_rows // self._batch) * self._batch
        self.steps = -(-self._bound(1) // self._batch)
        """Of every rank in an epoch."""

    def epoch(self, number: int, *, first: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from step `first` on; after the rank's last row come batches of weight 0."""
        step, window = first, first * self._batch // self._window
        for block in self._windows(number, window):
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

    def _windows(self, epoch: int, first: int) -> Iterator[_Block]:
        """The windows of an epoch from the one of number `first` on, each shuffled."""
        size = self._window
        windows: dict[int, _Window] = {}
        filling: dict[int, list[tuple[int, Future[str]]]] = defaultdict(list)
        parts, begin = deque(self.parts(epoch, skip=first * size)), first * size
        pool = ThreadPoolExecutor(self._threads)
        try:
            for number in range(first, -(-self._own_rows() // size)):
                while parts and begin < (number + 1 + self._ahead) * size:
                    part = parts.popleft()
                    spans = {}
                    for one, first_row, last_row, at in self._dealt(part, begin):
                        if one not in windows:
                            windows[one] = self._opened(epoch, one)
                        spans[one] = Span(windows[one], first_row, last_row, at)
                    filled = pool.submit(_fill, part, self._columns, tuple(spans.values()))
                    for one, span in spans.items():
                        filling[one].append((span.at, filled))
                    begin += part.last - part.first
                names = [(at, filled.result()) for at, filled in filling.pop(number)]
                yield windows.pop(number).shuffled(names)
        finally:
            pool.shutdown(cancel_futures=True)

    def _dealt(self, part: Part, begin: int) -> Iterator[tuple[int, int, int, int]]:
        """The windows that a part's rows belong into, which are the rank's from `begin` on: a window's number, the
        rows' ends in the row group, and where in the window they begin."""
        size, end = self._window, begin + part.last - part.first
        for number in range(begin // size, -(-end // size)):
            first, last = max(begin, number * size), min(end, (number + 1) * size)
            yield number, part.first + first - begin, part.first + last - begin, first - number * size

    def _opened(self, epoch: int, number: int) -> _Window:
        rows = min(self._window, self._own_rows() - number * self._window)
        return _Window(rows, self._columns, (self._seed, epoch, 1, self._rank, number), self._empty)

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
        places = block.origin.places[start : start + rows]
        return Batch(step, *own, rows, block.carried.slice(start, rows), block.origin._replace(places=places))


class _Block(NamedTuple):
    """A shuffled window."""

    whole: Int32
    real: Float32
    label: Float32
    weight: Float32
    carried: pa.Table
    origin: Origin

    @property
    def rows(self) -> int:
        return len(self.label)

    @classmethod
    def empty(cls, columns: Columns) -> _Block:
        nothing = np.empty(0, np.float32)
        whole, real = np.empty((0, len(columns.whole)), np.int32), np.empty((0, len(columns.real)), np.float32)
        carried, origin = pa.table({name: [] for name in columns.carried}), Origin(np.empty(0, np.int64), (), ())
        return cls(whole, real, nothing, nothing, carried, origin)


class _Window:
    """n rows that come in any order, each to its place in the shuffled window.

    (Made in the thread that trains: memory that another thread asks for goes back to the system with each window,
    and is filled with zeros again for the next.)
    """

    def __init__(self, rows: int, columns: Columns, key: Sequence[int], empty: Empty) -> None:
        self._columns = columns
        self._order = np.random.default_rng(key).permutation(rows)
        self._place = np.empty(rows, np.int32)
        self._place[self._order] = np.arange(rows, dtype=np.int32)
        self._whole: Int32 = empty((rows, len(columns.whole)), np.int32)
        self._real: Float32 = empty((rows, len(columns.real)), np.float32)
        self._label: Float32 = empty(rows, np.float32)
        self._weight: Float32 = empty(rows, np.float32)
        self._weight.fill(1)
        self._carried: dict[int, pa.RecordBatch] = {}

    def put(self, batch: pa.RecordBatch, at: int, source: str) -> None:
        """The rows from number `at` on. Raises MissingColumnsError, InputError."""
        columns = self._columns
        place = self._place[at : at + batch.num_rows]
        self._label[place] = _label(batch, source)
        if columns.weight is not None:
            self._weight[place] = real(batch, columns.weight)
        _deal([hashes(batch, name) for name in columns.whole], place, self._whole)
        _deal([real(batch, name) for name in columns.real], place, self._real)
        self._carried[at] = batch.select(columns.carried)

    def shuffled(self, sources: Sequence[tuple[int, str]]) -> _Block:
        """Once all rows are there; sources: where the rows of each row group begin, and its name."""
        carried = pa.table({})
        if self._columns.carried:
            batches = [self._carried[at] for at in sorted(self._carried)]
            carried = pa.Table.from_batches(batches).take(self._order)
        starts, names = zip(*sources, strict=True)
        origin = Origin(self._order, starts, names)
        return _Block(self._whole, self._real, self._label, self._weight, carried, origin)


class Span(NamedTuple):
    """Rows `first` up to but not `last` of a row group belong into a window from its row `at` on."""

    window: _Window
    first: int
    last: int
    at: int


def _fill(part: Part, columns: Columns, spans: Sequence[Span]) -> str:
    """Puts a part's rows into their windows; its name. Raises MissingColumnsError, InputError."""
    piece, before = part.counted.piece, 0
    source = f"{piece.path}, row group {piece.row_group}"
    for batch in reader.read(Shard((piece,)), columns=columns.read, stretch=part.counted.stretch):
        for window, first, last, at in spans:
            begin, end = max(first - before, 0), min(last - before, batch.num_rows)
            if begin < end:
                window.put(batch.slice(begin, end - begin), at + before + begin - first, source)
        before += batch.num_rows
        if before >= part.last:
            return source
    raise InputError(
        f"{source}: {part.last - before} rows fewer than were counted: the table's files have changed"
    )


def _deal(columns: Sequence[NDArray[Any]], place: NDArray[np.int32], out: NDArray[Any]) -> None:
    """Rows of n columns (n,), each at its place (n,) in `out` (m, k)."""
    strip: NDArray[Any] = np.empty((len(columns), STRIP), out.dtype)
    for begin in range(0, len(place), STRIP):
        end = min(begin + STRIP, len(place))
        for own, column in zip(strip, columns, strict=True):
            own[: end - begin] = column[begin:end]
        _put_rows(strip[:, : end - begin], place[begin:end], out)


def _label(batch: pa.RecordBatch, source: str) -> Float32:
    label = batch.column("label").to_numpy(zero_copy_only=False)  # (floats, where some are null)
    if not ((label == 0) | (label == 1)).all():
        raise InputError(f"{source}: a label is neither 0 nor 1")
    return np.asarray(label, np.float32)


def real(batch: pa.RecordBatch, name: str) -> Float32:
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
    own = bits[offset : offset + len(out)]  # (indices that are plainly ≥ 0 are quick)
    for i in range(len(out)):
        out[i] = own[i] - np.int32((own[i] & np.int32(0x7FFFFFFF)) == np.int32(0x7F800000))
    if len(known):
        for i in range(len(out)):
            at = np.uint64(offset + i)
            out[i] |= np.int32(
                (known[at >> np.uint64(3)] >> np.uint8(at & np.uint64(7))) & np.uint8(1)
            ) - np.int32(1)


@njit(cache=True, nogil=True)
def _put_rows(columns, place, out):  # type: ignore[no-untyped-def]
    """Turned in a core's nearest cache first: whole rows are moved at random faster than single values."""
    k, rows = columns.shape
    turned = np.empty((TILE, k), out.dtype)
    for begin in range(0, rows - TILE + 1, TILE):
        own, to = columns[:, begin : begin + TILE], place[begin : begin + TILE]
        for j in range(k):
            for i in range(TILE):
                turned[i, j] = own[j, i]
        for i in range(TILE):
            row = out[to[i]]
            for j in range(k):
                row[j] = turned[i, j]
    for i in range(rows // TILE * TILE, rows):
        for j in range(k):
            out[place[i], j] = columns[j, i]
