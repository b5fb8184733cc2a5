"""Ends the services whose pids a file lists, and all that they started: `end_services.py PIDS WORD`.

Asks, and after twenty seconds insists. WORD stands in the command line of each: else a number is another's by now.
"""

import sys
from pathlib import Path

import psutil

pids, word = Path(sys.argv[1]), sys.argv[2]
services = [psutil.Process(int(pid)) for pid in pids.read_text().split() if psutil.pid_exists(int(pid))]
services = [one for one in services if word in " ".join(one.cmdline())]
everything = [*services, *(child for one in services for child in one.children(recursive=True))]
for one in services:
    one.terminate()
_, left = psutil.wait_procs(everything, timeout=20)
for one in left:
    one.kill()
psutil.wait_procs(left, timeout=10)
pids.unlink()
