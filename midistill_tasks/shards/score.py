"""Scores a split in shards: in this process, or in several of this machine or of a cluster."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from midistill_tasks.shards.job import Files, Job
from midistill_tasks.shards.worker import Progress, Worker
from midistill_tasks.stats.command import WORKER
from midistill_tasks.study.executors import Executor, make_executor
from midistill_tasks.study.executors.drive import drive_units
from midistill_tasks.study.executors.resources import Need, Resources
from midistill_tasks.study.executors.unit import Unit

logger = logging.getLogger(__name__)


def score(job: Job, executor: str | None, jobs: int | None, arguments: Sequence[str]) -> dict[str, str]:
    """Makes the shards that are missing.

    Args:
        job: what is to be done.
        executor: where; None = in this process, unless there are several jobs.
        jobs: processes at a time, each of which loads the model; by default 1, or as many as a cluster has room for.
        arguments: this very command, behind ``midistill``: what each process is started with.

    Returns:
        What failed → why; empty where all shards are there.

    Raises:
        InputError: the job cannot be done, or not there.
    """
    loaded = job.load(job.all[0])
    files = Files.of(job, loaded)
    left = files.missing()
    logger.info("%d texts in %d shards, of which %d are there", files.texts, job.shards, job.shards - len(left))
    if executor is None and jobs in (None, 1):
        Worker(job, loaded).run()
        failed = {}
    else:
        loaded.clear()  # the texts are in the workers' memory, too
        most = max(1, len(left))  # where all are there, one sees whether they are of this model
        began = _workers(job, executor or "local", jobs, most, arguments)
        failed = drive_units(*began, Path(job.output), Resources(), Progress(files.paths, left).look)
    return failed or {f"shard {shard}": "it is not there; the same command makes it" for shard in files.missing()}


def _workers(job: Job, name: str, jobs: int | None, most: int, arguments: Sequence[str]) -> tuple[Executor, list[Unit]]:
    """Where the shards are made, and the processes that make them: no more than there is room or work for."""
    executor = make_executor(name, jobs if name == "local" else None)
    gpus = 0 if job.device == "cpu" else None
    return executor, [
        Unit(
            f"worker-{number}",
            (),
            Need(gpus, None, None),
            (*arguments, WORKER, str(number)),
            Path(job.output) / "logs" / f"worker-{number}",
            (),
        )
        for number in range(1, min(jobs or executor.places(), most) + 1)
    ]
