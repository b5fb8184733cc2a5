"""Splits cover every line of a file once, whatever their size, and say which line is which."""

from __future__ import annotations

import gzip
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clickmill.errors import InputError, NoRowsError
from clickmill.ingest import splits
from clickmill.ingest.splits import Split


def _lines(path: Path, *, split_bytes: int, chunk: int, max_line_bytes: int = 1000) -> list[bytes]:
    found: list[bytes] = []
    for split in splits.plan(splits.find(str(path), days=()), split_bytes=split_bytes):
        mine: list[bytes] = []
        for block in splits.blocks(split, max_line_bytes=max_line_bytes, chunk=chunk):
            assert block.line == len(mine)
            assert block.data.endswith(b"\n")
            mine += block.data.split(b"\n")[:-1]
        assert splits.count_lines(split) == len(mine)
        found += mine
    return found


@settings(max_examples=300, deadline=None)
@given(
    lines=st.lists(st.binary(max_size=12).map(lambda line: line.replace(b"\n", b"")), max_size=12),
    ends=st.booleans(),
    split_bytes=st.sampled_from([1, 2, 3, 7, 1000]),
    chunk=st.integers(1, 9),
    zipped=st.booleans(),
)
def test_every_line_is_read_once_and_in_order(
    tmp_path_factory: pytest.TempPathFactory,
    lines: list[bytes],
    ends: bool,
    split_bytes: int,
    chunk: int,
    zipped: bool,
) -> None:
    data = b"\n".join(lines) + (b"\n" if ends and lines else b"")
    path = tmp_path_factory.mktemp("log") / ("log.gz" if zipped else "log")
    path.write_bytes(gzip.compress(data) if zipped else data)
    expected = data.split(b"\n")
    expected = expected[:-1] if expected[-1] == b"" else expected
    assert _lines(path, split_bytes=split_bytes, chunk=chunk) == expected


def test_an_endless_line_is_cut_and_the_next_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"first\n" + b"x" * 100_000 + b"\nlast\n")
    (split,) = splits.plan(splits.find(str(path), days=()), split_bytes=10**6)
    blocks = list(splits.blocks(split, max_line_bytes=50, chunk=100))
    assert max(len(block.data) for block in blocks) < 300
    first, long, last = b"".join(block.data for block in blocks).split(b"\n")[:-1]
    assert (first, last) == (b"first", b"last")
    assert len(long) > 50
    assert _lines(path, split_bytes=1000, chunk=100, max_line_bytes=50)[2] == b"last"


def test_a_damaged_gzip_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "log.gz"
    path.write_bytes(gzip.compress(b"a\nb\n" * 1000)[:-10])
    (split,) = splits.plan(splits.find(str(path), days=()), split_bytes=100)
    with pytest.raises(InputError, match=r"log\.gz: damaged gzip"):
        splits.count_lines(split)
    with pytest.raises(InputError, match=r"log\.gz: damaged gzip"):
        list(splits.blocks(split, max_line_bytes=100))


def test_a_gzip_file_of_several_members_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "log.gz"
    path.write_bytes(gzip.compress(b"a\n") + gzip.compress(b"b\nc"))
    assert _lines(path, split_bytes=1, chunk=100) == [b"a", b"b", b"c"]


def test_a_file_that_shrinks_or_goes_away_is_named(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"a\nb\n")
    with pytest.raises(InputError, match="log: the file changed"):
        splits.count_lines(Split(0, str(path), 0, 400, None))
    path.unlink()
    with pytest.raises(InputError, match="log: the file changed"):
        splits.count_lines(Split(0, str(path), 0, 4, None))


def test_a_folder_a_glob_a_uri_and_a_day_name_files(tmp_path: Path) -> None:
    folder = tmp_path / "raw logs"
    for name in ("ds=2026-01-01/b.csv", "ds=2026-01-01/a.csv.gz", "ds=2026-01-02/c.csv", "_SUCCESS", ".x.crc"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"1\n")

    def names(path: str, **days: tuple[date, ...]) -> list[str]:
        return [file.path.removeprefix(f"{folder}/") for file in splits.find(path, **{"days": (), **days})]

    every = ["ds=2026-01-01/a.csv.gz", "ds=2026-01-01/b.csv", "ds=2026-01-02/c.csv"]
    assert names(str(folder)) == every
    assert names(f"{folder}/") == every
    assert names(f"{folder}/ds=*") == every
    assert names(f"{folder}/*/*.csv") == every[1:]
    (found,) = splits.find(f"file://{folder}/ds=2026-01-0[2]", days=())
    assert splits.first_line(found.path) == b"1"
    first, second, third = date(2026, 1, 1), date(2026, 1, 2), date(2026, 1, 3)
    assert names(f"{folder}/ds={{ds}}", days=(second,)) == every[2:]
    found = splits.find(f"{folder}/ds={{ds}}", days=(first,), optional=(second, third))
    assert [file.day for file in found] == [first, first, second]
    fourth = date(2026, 1, 4)
    with pytest.raises(NoRowsError, match=r"2026-01-03: there is no such file.*; nor for 2026-01-04") as lacking:
        names(f"{folder}/ds={{ds}}", days=(second, third, fourth))
    assert lacking.value.days == (third, fourth)
    with pytest.raises(NoRowsError, match=r"nothing.* there is no such file"):
        names(f"{folder}/nothing*")


def test_a_header_is_the_first_line_also_when_zipped(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"x,y\r\n1,2\r\n")
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(b"x,z"))
    assert splits.first_line(str(tmp_path / "a.csv")) == b"x,y"
    assert splits.first_line(str(tmp_path / "b.csv.gz")) == b"x,z"


def test_a_link_that_leads_nowhere_is_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("a\n")
    (tmp_path / "b.tsv").symlink_to(tmp_path / "gone.tsv")
    for path in (tmp_path, tmp_path / "*.tsv"):
        with pytest.raises(InputError, match=r"b\.tsv: a link to a file that is not there"):
            splits.find(str(path), days=())


def test_a_file_whose_name_looks_like_a_glob_is_itself(tmp_path: Path) -> None:
    for name in ("log[1].tsv", "log1.tsv"):
        (tmp_path / name).write_text("a\n")
    (found,) = splits.find(str(tmp_path / "log[1].tsv"), days=())
    assert found.path.endswith("log[1].tsv")
    (found,) = splits.find(str(tmp_path / "log[123].tsv"), days=())
    assert found.path.endswith("log1.tsv")
