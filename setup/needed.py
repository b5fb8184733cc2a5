"""Prints the pins of a lock that clickmill needs to run, without those of its tools: `needed.py LOCK`."""

import sys
from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

OF_THE_CLUSTER = {"pyspark", "delta-spark"}
FOR_GPUS = {"nvidia-nccl-cu12"}
WORKERS = {"pandas"}
"""What pyspark asks for in every worker."""

lines = Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()
pins = {canonicalize_name(Requirement(line).name): line for line in lines}
needed: set[str] = set()
left = {"clickmill", *WORKERS}
while left:
    name = left.pop()
    needed.add(name)
    for wanted in map(Requirement, requires(name) or ()):
        applies = wanted.marker is None or wanted.marker.evaluate({"extra": ""})
        if applies:
            left |= {canonicalize_name(wanted.name)} - needed - OF_THE_CLUSTER - FOR_GPUS
print("\n".join(pins[name] for name in sorted(needed - {"clickmill"})))
