"""Where files are looked for, by their address, and what they lack. (What is read: tests/spark/test_tables.py.)"""

from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq
import pytest

from clickmill import reader
from clickmill.errors import MissingColumnsError
from clickmill.reader import Piece, Shard


def test_files_on_s3_are_found_by_the_name_that_spark_gives_them(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(pyarrow.fs, "FileSystem", SimpleNamespace(from_uri=asked.append))
    for path in ("s3a://bucket/s3a://x", "s3://bucket/x", "gs://bucket/x"):
        reader._filesystem(path)
    assert asked == ["s3://bucket/s3a://x", "s3://bucket/x", "gs://bucket/x"]


def test_a_folder_needs_no_address() -> None:
    filesystem, inside = reader._filesystem("/ware house/features")
    assert isinstance(filesystem, pyarrow.fs.LocalFileSystem)
    assert inside == "/ware house/features"


@pytest.mark.parametrize("rows", [0, 3])
def test_a_column_that_no_file_has_is_told_before_the_last_row_group_is_given(tmp_path: Path, rows: int) -> None:
    pq.write_table(pa.table({"a": pa.array([1] * rows, pa.int32())}), tmp_path / "one.parquet")
    shard = Shard((Piece(str(tmp_path / "one.parquet"), 0, rows, ()),))
    with pytest.raises(MissingColumnsError, match=r"one.parquet: missing columns .*'b'"):
        next(reader.read(shard, columns=("a", "b")))
