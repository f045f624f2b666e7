"""Units as processes of this machine."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from midistill_tasks.study.executors import Executor, child, forks
from midistill_tasks.study.executors.unit import Unit

if TYPE_CHECKING:
    from midistill_tasks.study.executors.resources import Resources

_POLL, _WAIT = 0.05, 1.0


class Local(Executor):
    """So many at a time, which share the machine's cores; each has one of its GPUs, as far as there are so many."""

    def __init__(self, jobs: int = 1) -> None:
        self.jobs = jobs
        self.waiting: list[Unit] = []
        self.running: dict[int, tuple[Unit, child.Running]] = {}
        self.begin: Callable[[Sequence[str], Path, Mapping[str, str]], child.Running] = child.begin

    def check(self, folder: Path, resources: Resources, units: Sequence[Unit]) -> None:
        """There is nothing to refuse; where units can be forks, what they fork begins to load its libraries."""
        if forks.possible():
            from midistill_tasks.models import reload

            env = {**self._threads(units[0]), **reload.shared()}
            with suppress(OSError):  # each part then loads the libraries itself, as on a machine with GPUs
                forks.start_server(env)
                self.begin = forks.begin

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
                status = process.poll()
                if status is not None:
                    found.append((unit, child.said(status)))
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
            env = {**self._threads(unit), **_gpu(place)}
            self.running[place] = unit, self.begin(unit.arguments, unit.logs, env)

    def _threads(self, unit: Unit) -> dict[str, str]:
        """The recipe's cores for a part, which are the same for all, or this unit's share of the machine's."""
        return child.threads(unit.need.cpus or max(1, child.cores() // self.jobs))


def _gpu(place: int) -> dict[str, str]:
    """The environment in which only the GPU of this place is seen; with more places than GPUs they share them."""
    import torch

    if not torch.cuda.is_available():
        return {}
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    ids = seen.split(",") if seen else [str(number) for number in range(torch.cuda.device_count())]
    return {"CUDA_VISIBLE_DEVICES": ids[place % len(ids)]}
