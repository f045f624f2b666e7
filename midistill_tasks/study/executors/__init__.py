"""Where the parts of a study, or the shards of a split, are done: an executor is given units, each of them a command.

One is a module here and a line in `EXECUTORS`.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from midistill_tasks.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from midistill_tasks.study.executors.resources import Resources
    from midistill_tasks.study.executors.unit import Unit

EXECUTORS = {
    "local": "midistill_tasks.study.executors.local:Local",
    "ray": "midistill_tasks.study.executors.ray:Ray",
    "slurm": "midistill_tasks.study.executors.slurm:Slurm",
}
"""Name, as ``--executor`` takes it → module and class."""


class Executor:
    """Runs units somewhere, several at a time."""

    def orders(self) -> bool:
        """Whether it is given all units at once, and keeps each waiting for its needs by itself."""
        return False

    def places(self) -> int:
        """About how many units it has room for at once, of those that want a GPU where there is any."""
        return 1

    def check(self, folder: Path, resources: Resources, units: Sequence[Unit]) -> None:
        """Looks, before anything starts, at whether the units can run there.

        Args:
            folder: below which they write.
            resources: what the user says of all.
            units: all of them.

        Raises:
            InputError: they cannot.
        """

    def start(self, units: Sequence[Unit]) -> None:
        """Starts these as soon as there is room for them; returns at once."""
        raise NotImplementedError

    def ended(self) -> list[tuple[Unit, str]]:
        """What has ended since the last call, each with how: "" = with status 0. Waits about a second for one."""
        raise NotImplementedError

    def where(self, unit: Unit) -> str:
        """On which node a unit runs; "" = it waits for one."""
        return unit.node

    def stop(self) -> None:
        """Has what runs end with a checkpoint, and waits for that; what waits is not begun."""
        raise NotImplementedError


def make_executor(name: str, jobs: int | None) -> Executor:
    """The executor of this name.

    Args:
        name: a key of `EXECUTORS`.
        jobs: units at a time; None = one, or as many as the cluster takes.

    Raises:
        InputError: the executor needs a package that is not there, or takes no `jobs`; or this is one of several
            processes of a launcher.
    """
    if "RANK" in os.environ:
        raise InputError("--executor: the processes of a launcher share each part: start midistill itself without it")
    if jobs is not None and name != "local":
        raise InputError(f"--jobs: {name} runs as many parts as it has room for: leave --jobs out")
    if jobs is not None and jobs < 1:
        raise InputError(f"--jobs {jobs}: give 1 or more")
    module, _, kind = EXECUTORS[name].partition(":")
    made: Executor = getattr(importlib.import_module(module), kind)(*([jobs] if jobs else []))
    return made


def needs_package(name: str) -> InputError:
    """What to say where the package of the same extra is missing."""
    return InputError(f"--executor {name}: its package is not installed: python -m pip install 'midistill[{name}]'")
