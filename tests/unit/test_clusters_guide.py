"""docs/clusters.md names settings that Spark's own classes have: most of its commands cannot be run here."""

import re
from pathlib import Path
from zipfile import ZipFile

import pyspark
import pytest

GUIDE = (Path(__file__).parents[2] / "docs" / "clusters.md").read_text(encoding="utf-8")
NAMES = sorted(set(re.findall(r"\bspark\.[a-z][\w.]*\w", GUIDE)))
JARS = ("core", "common-utils", "kubernetes", "yarn", "launcher")
HOLD = re.compile("onf|Submit|onstants|yarn/Client")
"""In the names of classes that hold them."""
OTHERS = ("spark.hadoop.", "spark.delta.", "spark.driver.", "spark.executorEnv.")
"""Settings of Hadoop's connectors and Delta, and names that Spark puts together as it runs."""

FREE = ("spark.yarn.appMasterEnv.", "spark.kubernetes.driver.volumes.", "spark.kubernetes.executor.volumes.")
"""Beginnings of settings whose end is the user's."""


@pytest.fixture(scope="module")
def constants() -> bytes:
    """All classes of the jars that hold Spark's settings, one after the other."""
    found = []
    for name in JARS:
        for path in Path(pyspark.__path__[0], "jars").glob(f"spark-{name}_*.jar"):
            with ZipFile(path) as jar:
                found += [
                    jar.read(entry)
                    for entry in jar.namelist()
                    if re.search("onf|Submit|onstants|yarn/Client", entry)
                ]
    return b"".join(found)


def test_the_guide_names_settings() -> None:
    assert len(NAMES) > 15


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith(OTHERS)])
def test_a_setting_is_there_by_its_name_or_by_its_beginning_and_its_end(constants: bytes, name: str) -> None:
    known = next((begin for begin in FREE if name.startswith(begin)), name)
    words = known.split(".")
    cuts = [(".".join(words[:place]) + ".", ".".join(words[place:])) for place in range(2, len(words))]
    there = known.encode() in constants or any(
        begin.encode() in constants and end.encode() in constants for begin, end in cuts if end
    )
    assert there, f"{name}: Spark has no such setting"
