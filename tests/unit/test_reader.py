"""Where files are looked for, by their address. (What is read of them: tests/spark/test_tables.py.)"""

from types import SimpleNamespace

import pyarrow.fs
import pytest

from clickmill import reader


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
