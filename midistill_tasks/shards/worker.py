"""One process that scores shards, one after another, with the model and the texts loaded once."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from midistill_tasks.downloads import remedy
from midistill_tasks.errors import InputError
from midistill_tasks.harness.stats import identity
from midistill_tasks.locks import HeldError, held_beside
from midistill_tasks.shards.job import Files, Job
from midistill_tasks.splits.shards import Shard
from midistill_tasks.stats.file import reading

logger = logging.getLogger(__name__)


class Progress:
    """Says which shards are made, a line each, and about how long the others take."""

    def __init__(self, paths: Mapping[Shard, Path], left: Sequence[Shard]) -> None:
        self.paths, self.done, self.left = paths, 0, list(left)
        self.before = {shard: _written(paths[shard]) for shard in left}  # those that lack something are there
        self.start = time.monotonic()

    def made(self, shard: Shard) -> bool:
        """Whether somebody has made this one since."""
        return _written(self.paths[shard]) not in (0, self.before[shard])

    def look(self) -> None:
        """Says what is new."""
        for shard in filter(self.made, list(self.left)):
            self.left.remove(shard)
            self.done += 1
            rest = round((time.monotonic() - self.start) / self.done * len(self.left))
            more = f"; {len(self.left)} of {shard.of} left, about {timedelta(seconds=rest)}" if self.left else ""
            logger.info("shard %s: done%s", shard, more)


def _written(path: Path) -> int:
    """When, in nanoseconds; 0 = it is not there."""
    return path.stat().st_mtime_ns if path.is_file() else 0


class Worker:
    """Takes the next shard that is missing and that nobody else is at."""

    def __init__(self, job: Job, loaded: Mapping[str, Any]) -> None:
        self.job, self.files = job, Files.of(job, loaded)
        # Held, so that the tasks of the next shard find them.
        self._documents = [task.documents for task in loaded["tasks"].values()]

    def run(self) -> None:
        """Until there is none left; those that others are at are theirs.

        Raises:
            InputError: what is there is another model's, this one gives no statistics, or they cannot be written.
        """
        left = self.files.missing()
        self._refuse_others([shard for shard in self.files.paths if shard not in left])
        progress = Progress(self.files.paths, left)
        for shard in left:
            try:
                with held_beside(self.files.paths[shard], "--output"):
                    if not progress.made(shard):
                        self._make(shard)
            except HeldError:
                continue
            progress.look()

    def _refuse_others(self, kept: Sequence[Shard]) -> None:
        """A model that was trained on since has the same name, and other weights."""
        ours = identity(self.lm) if kept else None
        for shard in kept:
            with reading(self.files.paths[shard]) as file:
                theirs = file.about["model_identity"]
            if theirs != ours:
                raise InputError(
                    f"--output: {self.files.paths[shard]} is of another model of this name, such as other weights: "
                    "give another --output, or delete what is there of that model"
                )

    @cached_property
    def lm(self) -> Any:
        """The model; raises InputError where the harness cannot load it."""
        from lm_eval.api.registry import get_model

        from midistill_tasks.models.architectures import register
        from midistill_tasks.scoring.models import add_to_harness

        register()
        add_to_harness()
        flags = {"batch_size": self.job.batch_size, "max_batch_size": None, "device": self.job.device}
        try:
            return get_model(self.job.model).create_from_arg_obj(dict(self.job.model_args), flags)
        except (OSError, ValueError, KeyError, ImportError, TypeError) as error:
            passing = remedy(error, str(self.job.model_args.get("pretrained")))
            why = f"it {passing}" if passing else next(iter(str(error).splitlines()), type(error).__name__)
            raise InputError(f"--model {self.job.model} with these --model_args cannot be loaded: {why}") from error

    def _make(self, shard: Shard) -> None:
        from lm_eval import evaluate

        evaluate(lm=self.lm, task_dict=self.job.load(shard), bootstrap_iters=0, log_samples=False)
        if not self.files.paths[shard].is_file():
            raise InputError(f"shard {shard} has no statistics: the log says why, such as a model that gives none")
