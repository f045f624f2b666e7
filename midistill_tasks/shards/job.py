"""A split to be scored in shards: which tasks, by which model, into which files; and which of these are missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from midistill_tasks.errors import InputError, nearest
from midistill_tasks.harness import yaml_folder
from midistill_tasks.harness.scores import Outcome
from midistill_tasks.harness.task import MIATask
from midistill_tasks.splits import SPLITS
from midistill_tasks.splits.shards import Shard
from midistill_tasks.stats.file import path_of
from midistill_tasks.stats.parts import differences, look


@cache
def _yaml_folder() -> str:
    """Asked once a process: outside a wheel it is written anew each time."""
    return str(yaml_folder())


@dataclass(frozen=True)
class Job:
    """What is to be done.

    Attributes:
        task: a MIA task or group of the harness, the name of a split (its group), or a YAML file.
        model: the harness's ``--model``, and
        model_args, batch_size, device, include_path: its flags of these names.
        metadata: as of its ``--metadata``.
        shards: how many.
        output: the folder of the statistics.
    """

    task: str
    model: str
    model_args: Mapping[str, Any]
    batch_size: str
    device: str | None
    include_path: str | None
    metadata: Mapping[str, Any]
    shards: int
    output: str

    def __post_init__(self) -> None:
        if self.shards < 1:
            raise InputError(f"--shards {self.shards}: give 1 or more")
        given = self.metadata.get("mia") or {}
        for key, flag in (("shard", "--shards"), ("save_stats", "--output")):
            if isinstance(given, Mapping) and key in given:
                raise InputError(f"--metadata 'mia': '{key}' is what {flag} says: leave it out")

    @property
    def all(self) -> list[Shard]:
        """The shards."""
        return [Shard(number, self.shards) for number in range(1, self.shards + 1)]

    def load(self, shard: Shard) -> dict[str, Any]:
        """The tasks on a shard, as the harness's `evaluate` takes them.

        Raises:
            InputError: there is no such task, it is none of membership inference, or its options or texts are not what
                they must be.
        """
        from lm_eval.tasks import TaskManager

        options = {"shard": str(shard), "save_stats": self.output}
        manager = TaskManager(
            include_defaults=False,
            include_path=[_yaml_folder(), *([self.include_path] if self.include_path else [])],
            metadata={**self.model_args, **self.metadata, "mia": {**(self.metadata.get("mia") or {}), **options}},
        )
        loaded: dict[str, Any] = manager.load([self._named(manager)])
        others = [name for name, task in loaded["tasks"].items() if not isinstance(task, MIATask)]
        if others or not loaded["tasks"]:
            raise InputError(f"{self.task}: {', '.join(others) or 'it'} is no MIA task: `midistill tasks` lists them")
        if len(splits := {task.keys.split_name for task in loaded["tasks"].values()}) > 1:
            raise InputError(f"{self.task} has tasks on {len(splits)} splits: name one, such as {min(splits)}")
        return loaded

    def _named(self, manager: Any) -> Any:
        """The task as the harness is told it."""
        if self.task.endswith((".yaml", ".yml")):
            from lm_eval.tasks._yaml_loader import load_yaml

            if not Path(self.task).is_file():
                raise InputError(f"{self.task}: there is no such file")
            return load_yaml(self.task, resolve_func=True)
        name = f"mia_{self.task}" if self.task in SPLITS else self.task
        if name not in manager.all_tasks:
            known = [*SPLITS, *(each for each in manager.all_tasks if each.startswith("mia_"))]
            hint = nearest(self.task, known)
            raise InputError(f"there is no task or split '{self.task}'{hint}; `midistill tasks` lists them")
        return name


@dataclass(frozen=True)
class Files:
    """Where the shards of a job are, and what each must say of itself."""

    paths: Mapping[Shard, Path]
    about: Mapping[str, Any]
    texts: int

    @staticmethod
    def of(job: Job, loaded: Mapping[str, Any]) -> Files:
        """By the tasks on any of its shards."""
        task: MIATask = next(iter(loaded["tasks"].values()))
        paths = {shard: path_of(job.output, task.model_name(), task.keys.split_name, shard) for shard in job.all}
        return Files(paths, task.about(Outcome()), len(task.scored))

    def missing(self) -> list[Shard]:
        """Those that are not there, or lack a view that others have: a run that was killed wrote them.

        Raises:
            InputError: one that is there is of other texts or options.
        """
        there = {shard: look(path) for shard, path in self.paths.items() if path.is_file()}
        for shard, part in there.items():
            if differs := next(differences(part.about, self.about), ""):
                raise InputError(
                    f"--output: {part.path} is shard {shard} of another run ({differs}): give another --output"
                )
        views = frozenset[str]().union(*(part.views for part in there.values()))
        return [shard for shard in self.paths if shard not in there or views - there[shard].views]
