"""Units as processes of this machine."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence

from midistill_tasks.study.executors import Executor, child
from midistill_tasks.study.executors.unit import Unit

_POLL, _WAIT = 0.05, 1.0


class Local(Executor):
    """So many at a time, which share the machine's cores; each has one of its GPUs, as far as there are so many."""

    def __init__(self, jobs: int = 1) -> None:
        self.jobs = jobs
        self.waiting: list[Unit] = []
        self.running: dict[int, tuple[Unit, subprocess.Popen[bytes]]] = {}

    def places(self) -> int:
        """See `Executor`."""
        return self.jobs

    def start(self, units: Sequence[Unit]) -> None:
        """Those that find no place wait for one."""
        self.waiting += units
        self._fill()

    def ended(self) -> list[tuple[Unit, str]]:
        """See `Executor`."""
        found: list[tuple[Unit, str]] = []
        until = time.monotonic() + _WAIT
        while not found and time.monotonic() < until:
            for place, (unit, process) in list(self.running.items()):
                if process.poll() is not None:
                    found.append((unit, child.said(process.returncode)))
                    del self.running[place]
            if not found:
                time.sleep(_POLL)
        self._fill()
        return found

    def stop(self) -> None:
        """See `Executor`."""
        self.waiting.clear()
        child.stop([process for _, process in self.running.values()])

    def _fill(self) -> None:
        free = [place for place in range(self.jobs) if place not in self.running]
        while free and self.waiting:
            unit, place = self.waiting.pop(0), free.pop(0)
            cores = max(1, child.cores() // self.jobs)
            env = {**child.threads(unit.need.cpus or cores), **_gpu(place)}
            self.running[place] = unit, child.begin(unit.arguments, unit.logs, os.getcwd(), env)


def _gpu(place: int) -> dict[str, str]:
    """The environment in which only the GPU of this place is seen; with more places than GPUs they share them."""
    import torch

    if not torch.cuda.is_available():
        return {}
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    ids = seen.split(",") if seen else [str(number) for number in range(torch.cuda.device_count())]
    return {"CUDA_VISIBLE_DEVICES": ids[place % len(ids)]}
