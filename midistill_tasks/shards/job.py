"""A split to be scored in shards: which tasks, by which model, into which files; and which of these are missing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from midistill_tasks.errors import InputError, nearest
from midistill_tasks.harness import yaml_folder
from midistill_tasks.harness.scores import Outcome
from midistill_tasks.harness.task import MIATask
from midistill_tasks.secrets import redact
from midistill_tasks.splits import SPLITS
from midistill_tasks.splits.shards import Shard
from midistill_tasks.stats.file import path_of
from midistill_tasks.stats.parts import Part, differences, look

_NOT_OF_FIGURES = frozenset(
    {"cache_dir", "max_cpu_memory", "max_memory_per_gpu", "max_retries", "num_concurrent", "offload_folder"}
    | {"parallelize", "timeout", "token"}
)
"""Model_args that say where and how fast a model runs."""


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

    @property
    def scored_by(self) -> dict[str, Any]:
        """The model as it is given, as far as that decides its figures; without secrets, as JSON keeps it."""
        args = {key: value for key, value in self.model_args.items() if key not in _NOT_OF_FIGURES}
        given = redact({"model": self.model, "model_args": args})
        found: dict[str, Any] = json.loads(json.dumps(given, default=str))
        return found

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
        for task in loaded["tasks"].values():
            task.scored_by = self.scored_by
        return loaded

    def _named(self, manager: Any) -> Any:
        """The task as the harness is told it."""
        if self.task.endswith((".yaml", ".yml")):
            from lm_eval.tasks._yaml_loader import load_yaml

            if not Path(self.task).is_file():
                raise InputError(f"{self.task}: there is no such file")
            config = load_yaml(self.task, resolve_func=True)
            if "task" not in config or not isinstance(config["task"], str):  # the harness builds one task of a file
                name = config.get("group", "a task's or group's name")
                raise InputError(f"{self.task} is no task's file: give {name} --include_path {Path(self.task).parent}")
            return config
        name = f"mia_{self.task}" if self.task in SPLITS else self.task
        if name not in manager.all_tasks:
            known = [*SPLITS, *(each for each in manager.all_tasks if each.startswith("mia_"))]
            hint = nearest(self.task, known)
            raise InputError(f"there is no task or split '{self.task}'{hint}; `midistill tasks` lists them")
        return name


@dataclass(frozen=True)
class Files:
    """Where the shards of a job are, what each must say of itself, and what the tasks ask of its texts."""

    paths: Mapping[Shard, Path]
    about: Mapping[str, Any]
    asked: frozenset[str]
    texts: int

    @staticmethod
    def of(job: Job, loaded: Mapping[str, Any]) -> Files:
        """By the tasks on any of its shards."""
        task: MIATask = next(iter(loaded["tasks"].values()))
        paths = {shard: path_of(job.output, task.model_name(), task.keys.split_name, shard) for shard in job.all}
        asked = frozenset[str]().union(*(each.keys.asked for each in loaded["tasks"].values()))
        return Files(paths, task.about(Outcome()), asked, len(task.scored))

    def missing(self) -> list[Shard]:
        """Those that are not there, or lack what the tasks ask for or others have.

        Other tasks wrote these, or a run that was killed.

        Raises:
            InputError: one that is there is of other texts, options or model_args, or what it has would be lost.
        """
        there = {shard: look(path) for shard, path in self.paths.items() if path.is_file()}
        for shard, part in there.items():
            if differs := next(differences(part.about, self.about), ""):
                raise InputError(
                    f"--output: {part.path} is shard {shard} of another run ({differs}): give another --output"
                )
        views = frozenset[str]().union(*(part.views for part in there.values()))
        left = [shard for shard in self.paths if shard not in there or self._lacks(there[shard], views)]
        if left and (others := views.union(*map(_asked, there.values())) - self.asked):
            raise InputError(
                f"--output: the shards that are there hold what these tasks do not ask for ({min(others)}): name those "
                "of before, too, as a group does, or give another --output"
            )
        return left

    def _lacks(self, part: Part, views: frozenset[str]) -> bool:
        """Before shards said what was asked of their texts, a view that others have was all that could be missed."""
        return bool(views - part.views or ("asked" in part.about and self.asked - _asked(part)))


def _asked(part: Part) -> frozenset[str]:
    return frozenset(part.about.get("asked", ()))
