"""Where the lines of a text log lie: its files, cut into splits that workers read by themselves.

Spark's own text reader loses line numbers and mends invalid UTF-8, so files are read here: a local
path, or any URI that `pyarrow.fs` opens (s3://, gs://, hdfs://, abfss://).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import IO, Any, NamedTuple, cast
from urllib.parse import quote

from pyarrow import fs

from clickmill.errors import InputError, NoRowsError

CHUNK = 4 * 2**20
_GLOB = re.compile(r"[*?\[]")


class File(NamedTuple):
    """A file of the log; `day` where its path was made from that day."""

    path: str
    size: int
    day: date | None


class Split(NamedTuple):
    """The lines of a file whose first byte lies in [start, end)."""

    file: int
    """Place of the file in the sorted list."""
    path: str
    start: int
    end: int
    day: date | None


class Block(NamedTuple):
    """Whole lines of one split; `line` is the number of the first, counted from 0 within the split."""

    line: int
    data: bytes


def find(path: str, *, days: tuple[date, ...], optional: tuple[date, ...] = ()) -> tuple[File, ...]:
    """The files that `path` names, sorted, each once: a file, a folder (all below it) or a glob.

    `{ds}` in the path stands for each of `days` (whose files must be there) and `optional` ones.
    Raises NoRowsError where there are none.
    """
    if "{ds}" not in path:
        return tuple(_listed(path, None))
    found: list[File] = []
    lacking: dict[date, str] = {}
    for day in sorted({*days, *optional}):
        try:
            found += _listed(path.replace("{ds}", day.isoformat()), day)
        except NoRowsError as error:
            if day in days:
                lacking[day] = str(error)
    require_none(lacking)
    return tuple(found)


def require_none(lacking: Mapping[date, str]) -> None:
    """Raises NoRowsError where some days have no file: what is said of the first, and the others by name."""
    if lacking:
        first, *more = lacking
        others = f"; nor for {', '.join(map(str, more))}" if more else ""
        raise NoRowsError(f"{lacking[first]}{others}", lacking)


def plan(files: tuple[File, ...], *, split_bytes: int) -> Iterator[Split]:
    """The splits of all files, in order. A compressed file is one split."""
    for place, file in enumerate(files):
        step = max(file.size, 1) if is_gzip(file.path) else split_bytes
        for start in range(0, file.size, step):
            yield Split(place, file.path, start, min(start + step, file.size), file.day)


def number(
    planned: Sequence[Split], lines: Mapping[tuple[int, int], int], *, header: bool
) -> list[dict[str, Any]]:
    """The splits with what comes before each, given how many `lines` each (file, start) has.

    `line`: lines of the file; `ordinal`: the same plus the rows of earlier files (of the same day, where
    paths are made from days); `day_rows`: rows of all files (of that day). With a header a file has one
    row less than it has lines. One driver row a split: a terabyte in 32 MB splits makes 32,000.
    """
    in_file: dict[int, int] = {}
    earlier: dict[int, int] = {}
    rows_of: dict[date | None, int] = {}
    numbered: list[dict[str, Any]] = []
    for split in planned:
        before = in_file.get(split.file, 0)
        earlier.setdefault(split.file, rows_of.get(split.day, 0))
        numbered.append({**split._asdict(), "line": before, "ordinal": earlier[split.file] + before})
        found = lines[split.file, split.start]
        in_file[split.file] = before + found
        rows = found - 1 if header and split.start == 0 and found else found
        rows_of[split.day] = rows_of.get(split.day, 0) + rows
    return [{**row, "day_rows": rows_of[row["day"]]} for row in numbered]


def is_gzip(path: str) -> bool:
    """Whether the file's name says gzip."""
    return path.endswith(".gz")


def count_lines(split: Split) -> int:
    """How many lines begin in the split."""
    with _opened(split) as stream:
        if is_gzip(split.path):
            return _count_all(stream)
        lines = 1 if split.start == 0 else 0
        position = max(split.start - 1, 0)
        stream.seek(position)
        while position < split.end - 1:
            chunk = stream.read(min(CHUNK, split.end - 1 - position))
            if not chunk:
                raise _changed(split.path)
            lines += chunk.count(b"\n")
            position += len(chunk)
        return lines


def first_line(path: str) -> bytes:
    """The first line of a file, without its end; at most `CHUNK` bytes of it."""
    return first_lines(path).partition(b"\n")[0].rstrip(b"\r")


def first_lines(path: str) -> bytes:
    """As many whole lines as lie in the first `CHUNK` bytes of a file, but at least its first one's start."""
    with _opened(Split(0, path, 0, 1, None)) as stream:
        start = stream.read(CHUNK)
    return start if len(start) < CHUNK or b"\n" not in start else start[: start.rindex(b"\n") + 1]


def blocks(split: Split, *, max_line_bytes: int, chunk: int = CHUNK) -> Iterator[Block]:
    """The split's lines in blocks of about `chunk` bytes, each line with its newline (the file's last one too).

    Of a line longer than `max_line_bytes` only a little more than that comes, so that memory is bounded.
    """
    with _opened(split) as stream:
        budget = None
        if not is_gzip(split.path):
            budget = split.end - split.start
            if split.start > 0:
                stream.seek(split.start - 1)
                budget -= _skip_line(stream, chunk) - 1
        if budget is None or budget > 0:
            yield from _whole_lines(stream, budget, chunk, max_line_bytes)


def stream_blocks(stream: IO[bytes], *, max_line_bytes: int, chunk: int = CHUNK) -> Iterator[Block]:
    """All lines of an open stream in blocks, as `blocks` gives those of a split."""
    yield from _whole_lines(stream, None, chunk, max_line_bytes)


def _count_all(stream: IO[bytes]) -> int:
    lines, last = 0, b"\n"
    while chunk := stream.read(CHUNK):
        lines += chunk.count(b"\n")
        last = chunk[-1:]
    return lines + (last != b"\n")


def _skip_line(stream: IO[bytes], chunk: int) -> int:
    """Moves past the next newline; returns how many bytes that was."""
    skipped = 0
    while True:
        position = stream.tell()
        piece = stream.read(min(chunk, 65536))
        found = piece.find(b"\n")
        if found >= 0:
            stream.seek(position + found + 1)
            return skipped + found + 1
        if not piece:
            return skipped
        skipped += len(piece)


def _whole_lines(stream: IO[bytes], budget: int | None, chunk: int, max_line_bytes: int) -> Iterator[Block]:
    """Lines that begin in the first `budget` bytes (None: all)."""
    line, carry, consumed = 0, b"", 0
    limit = max_line_bytes + 2  # room for \r and one byte too many
    while True:
        piece = stream.read(chunk)
        end = len(piece)
        if budget is not None and consumed + end >= budget:
            # The last line that begins here is the one that covers byte budget - 1; it ends at the next newline.
            found = piece.find(b"\n", max(budget - 1 - consumed, 0))
            end = found + 1 if found >= 0 else end
            done = found >= 0 or not piece
        else:
            done = not piece
        consumed += len(piece)
        data = carry + piece[:end]
        cut = len(data) if done else data.rfind(b"\n") + 1
        block, carry = data[:cut], data[cut:]
        carry = carry[:limit]
        if block and not block.endswith(b"\n"):
            block += b"\n"
        if block:
            yield Block(line, block)
            line += block.count(b"\n")
        if done:
            return


@contextmanager
def _opened(split: Split) -> Iterator[IO[bytes]]:
    """The file as bytes, decompressed. Raises InputError where it cannot be read to its end."""
    system, path = _system(split.path)
    try:
        if is_gzip(split.path):
            with system.open_input_stream(path, compression="gzip") as stream:
                yield cast(IO[bytes], stream)
        else:
            with system.open_input_file(path) as stream:
                yield cast(IO[bytes], stream)
    except FileNotFoundError:
        raise _changed(split.path) from None
    except OSError as error:
        if is_gzip(split.path):
            raise InputError(f"{split.path}: damaged gzip file ({error}); fetch it again") from None
        raise


def _changed(path: str) -> InputError:
    return InputError(f"{path}: the file changed or went away while it was read; run again when it is complete")


def _listed(path: str, day: date | None) -> list[File]:
    path = path.rstrip("/") or "/"
    system, inside = _system(path)
    as_path = _in_uri(inside) if "://" in path else inside
    before, _, after = _uri(path).rpartition(as_path)  # what a URI says beside the path: scheme, host, options
    info = system.get_file_info(inside)
    if info.type == fs.FileType.NotFound and _GLOB.search(inside):
        infos = _globbed(system, inside)
    else:
        infos = _below(system, inside) if info.type == fs.FileType.Directory else [info]
    files = [
        File(f"{before}{_in_uri(i.path) if before else i.path}{after}", i.size, day)
        for i in infos
        if i.type == fs.FileType.File
    ]
    if not files:
        raise NoRowsError(f"{path}: there is no such file, and no folder or glob with files; see source.path")
    return sorted(files)


def _below(system: fs.FileSystem, folder: str) -> list[fs.FileInfo]:
    """Every file below a folder, but those that writers leave beside the data (`_SUCCESS`, `.crc`)."""
    _require_no_dangling_link(system, folder, "*", recursive=True)
    infos = system.get_file_info(fs.FileSelector(folder, recursive=True))
    depth = len(PurePosixPath(folder).parts)
    return [i for i in infos if not any(p[0] in "_." for p in PurePosixPath(i.path).parts[depth:])]


def _globbed(system: fs.FileSystem, pattern: str) -> list[fs.FileInfo]:
    """Files that match, part by part (`*` does not cross a `/`), and all files of folders that match."""
    parts = PurePosixPath(pattern).parts
    fixed = next(n for n, part in enumerate(parts) if _GLOB.search(part))
    level = [str(PurePosixPath(*parts[:fixed]))] if fixed else ["."]
    infos: list[fs.FileInfo] = []
    for part in parts[fixed:]:
        for folder in level:
            _require_no_dangling_link(system, folder, part, recursive=False)
        infos = [
            info
            for folder in level
            for info in system.get_file_info(fs.FileSelector(folder, allow_not_found=True))
            if fnmatchcase(info.base_name, part) and (info.base_name[0] not in "_." or part[0] in "_.")
        ]
        level = [info.path for info in infos if info.type == fs.FileType.Directory]
    return [i for i in infos if i.type == fs.FileType.File] + [
        f for folder in level for f in _below(system, folder)
    ]


def _require_no_dangling_link(system: fs.FileSystem, folder: str, pattern: str, *, recursive: bool) -> None:
    """Raises InputError for a link that leads nowhere, which Arrow passes over in silence."""
    if not isinstance(system, fs.LocalFileSystem):
        return
    for at, _, names in os.walk(folder):
        for name in sorted(names):
            path = os.path.join(at, name)
            if (
                fnmatchcase(name, pattern)
                and name[0] not in "_."
                and os.path.islink(path)
                and not os.path.exists(path)
            ):
                raise InputError(f"{path}: a link to a file that is not there; restore it or take the link away")
        if not recursive:
            return


def _system(path: str) -> tuple[fs.FileSystem, str]:
    if "://" not in path:
        return fs.LocalFileSystem(), path
    system, inside = fs.FileSystem.from_uri(_uri(path))
    return system, inside


def _uri(path: str) -> str:
    """A URI with its spaces and the like escaped; what is escaped already stays so."""
    return quote(path, safe="%/:@?&=+*,;~!$'()") if "://" in path else path


def _in_uri(path: str) -> str:
    return quote(path, safe="/:@&=+*,;~!$'()")
