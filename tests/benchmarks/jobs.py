"""What `midistill study --jobs 2` takes beside one part after another, on two cores.

    OMP_NUM_THREADS=1 python tests/benchmarks/jobs.py [ROUNDS]

A study like `study-bios`, with two seeds of three arms; both ways in turn, each in a new folder. Wall time counts as
far as nothing else runs on the machine; beside it stands what the parts took of CPU time, and how long two cores that
do nothing else need to do them in their order.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from midistill_tasks.study.executors.units import Unit, units_of
from midistill_tasks.study.run import load_study
from midistill_tasks.study.work import Work

ARMS = "arms={vanilla: {}, nonorm: {nonorm: true}, bottleneck: {bottleneck: 48}}"
SET = ["seeds=[0,1]", ARMS, "controls={nonorm: vanilla}"]


def took(*arguments: str) -> tuple[float, float]:
    """Wall and CPU seconds of a command of midistill, its own processes included."""
    wall, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "midistill_tasks.cli", *arguments], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.monotonic() - wall, cpu


def schedule(units: list[Unit], seconds: dict[str, float], cores: int) -> float:
    """When the last of these ends on so many cores that do nothing else, each begun as soon as it can be."""
    ends: dict[str, float] = {}
    free, waiting = [0.0] * cores, list(units)
    while waiting:
        now = min(free)
        ready = [unit for unit in waiting if all(ends.get(need, float("inf")) <= now for need in unit.needs)]
        core = free.index(now)
        if ready:
            ends[ready[0].name] = free[core] = now + seconds[ready[0].name]
            waiting.remove(ready[0])
        else:
            free[core] = min(end for end in ends.values() if end > now)
    return max(ends.values())


def command(output: str) -> list[str]:
    """The study, into this folder."""
    return ["study", "study-bios", *(f"--set={each}" for each in (*SET, f"output={output}"))]


def alone(output: str) -> tuple[dict[str, float], float]:
    """Unit → its CPU seconds, alone on the machine; and what `schedule` says of two cores."""
    study = load_study("study-bios", [*SET, f"output={output}"])
    Path(study.output).mkdir()
    work = Work(study)
    units = units_of(work, work.parts, command(output)[1:])
    seconds = {unit.name: took(*unit.arguments)[1] for unit in units}
    return seconds, schedule(units, seconds, 2)


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    print(f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS')}, load {os.getloadavg()[0]:.1f}")
    for number in range(rounds):
        with TemporaryDirectory() as folder:
            one, two = took(*command(f"{folder}/one")), took(*command(f"{folder}/two"), "--jobs", "2")
            seconds, ideal = alone(f"{folder}/parts")
        said = f"one {one[0]:.0f} s ({one[1]:.0f} CPU), two {two[0]:.0f} s ({two[1]:.0f} CPU): {two[0] / one[0]:.2f}"
        print(f"round {number}: {said}")
        print(f"  parts in CPU seconds: {', '.join(f'{name} {each:.0f}' for name, each in seconds.items())}")
        print(f"  on two cores alone {ideal:.0f} s, {ideal / one[1]:.2f} of the CPU seconds of one after another")


if __name__ == "__main__":
    main()
