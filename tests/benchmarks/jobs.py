"""What `midistill study --jobs 2` takes beside one part after another, on two cores.

    OMP_NUM_THREADS=1 python tests/benchmarks/jobs.py [ROUNDS]

A study like `study-bios`, with two seeds of three arms; both ways in turn, each in a new folder. Wall time: it counts
as far as nothing else runs on the machine, so the load before each run stands beside it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from tempfile import TemporaryDirectory

ARMS = "arms={vanilla: {}, nonorm: {nonorm: true}, bottleneck: {bottleneck: 48}}"
SET = ["seeds=[0,1]", ARMS, "controls={nonorm: vanilla}"]


def took(output: str, *more: str) -> float:
    """Seconds of the study, into this folder."""
    study = ["study", "study-bios", *(f"--set={each}" for each in (*SET, f"output={output}"))]
    start = time.monotonic()
    subprocess.run([sys.executable, "-m", "midistill_tasks.cli", *study, *more], check=True, capture_output=True)
    return time.monotonic() - start


def main() -> None:
    print(f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS')}")
    for number in range(int(sys.argv[1]) if len(sys.argv) > 1 else 1):
        with TemporaryDirectory() as folder:
            load = os.getloadavg()[0]
            one, two = took(f"{folder}/one"), took(f"{folder}/two", "--jobs", "2")
        print(f"round {number}: one {one:.0f} s, two {two:.0f} s: {two / one:.2f} (load before it {load:.1f})")


if __name__ == "__main__":
    main()
