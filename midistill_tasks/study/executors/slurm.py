"""Units as SLURM jobs, by submitit: arrays, each of which waits for the jobs that it needs."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from midistill_tasks.errors import InputError
from midistill_tasks.study.executors import Executor, child, needs_package
from midistill_tasks.study.executors.resources import GB, Need, Resources
from midistill_tasks.study.executors.unit import Unit

DAY = 24 * 60
"""Minutes of a job, where ``resources.slurm.time`` says nothing; at its end it goes on in a new one, three times."""
_WAIT = 1.0
_OWN = ("gpus_per_node", "cpus_per_task", "mem", "dependency", "job_name", "array")


class Slurm(Executor):
    """One job a unit; those that wait for the same ones and take the same are an array.

    Args:
        cluster: submitit's word: ``local`` starts processes of this machine in place of jobs, in the tests.
    """

    def __init__(self, cluster: str = "slurm") -> None:
        try:
            import submitit
        except ImportError as error:
            raise needs_package("slurm") from error
        self.submitit: Any = submitit
        self.cluster = cluster
        self.jobs: dict[str, Any] = {}
        self.running: dict[str, Unit] = {}

    def orders(self) -> bool:
        """SLURM keeps jobs waiting for others; submitit's stand-ins do not."""
        return self.cluster == "slurm"

    def check(self, folder: Path, resources: Resources, units: Sequence[Unit]) -> None:
        """Raises InputError where this machine cannot submit jobs, or an option says what the study says itself."""
        if self.cluster == "slurm" and not (shutil.which("sbatch") and shutil.which("srun")):
            raise InputError("--executor slurm: there is no sbatch and srun here: start the study on a login node")
        for name in resources.slurm:
            if name.replace("-", "_") in _OWN:
                raise InputError(f"resources.slurm: '{name}' is the study's own: give gpus, cpus or memory beside it")
        self.resources = resources
        self.folder = folder / "logs" / "submitit"

    def start(self, units: Sequence[Unit]) -> None:
        """See `Executor`."""
        arrays: dict[tuple[tuple[str, ...], Need], list[Unit]] = {}
        for unit in units:
            arrays.setdefault((unit.needs, unit.need), []).append(unit)
        for (needs, need), alike in arrays.items():
            submit = self.submitit.AutoExecutor(folder=self.folder, cluster=self.cluster)
            after = [self.jobs[name].job_id for name in needs if name in self.jobs] if self.orders() else []
            submit.update_parameters(**options(self.resources, need, after))
            with submit.batch():
                jobs = [submit.submit(Task(unit.arguments, unit.logs, os.getcwd(), need.cpus or 1)) for unit in alike]
            self.jobs |= {unit.name: job for unit, job in zip(alike, jobs, strict=True)}
            self.running |= {unit.name: unit for unit in alike}

    def ended(self) -> list[tuple[Unit, str]]:
        """See `Executor`."""
        time.sleep(_WAIT)
        names = [name for name in self.running if self.jobs[name].done()]
        return [(self.running.pop(name), self._how(self.jobs[name])) for name in names]

    def stop(self) -> None:
        """See `Executor`; SLURM gives a job 30 seconds (KillWait) to end."""
        for name in self.running:
            self.jobs[name].cancel(check=False)
        until = time.monotonic() + child.GRACE
        while time.monotonic() < until and not all(self.jobs[name].done(force_check=True) for name in self.running):
            time.sleep(_WAIT)
        self.running.clear()

    def _how(self, job: Any) -> str:
        try:
            return child.said(job.result())
        except (self.submitit.core.utils.UncompletedJobError, self.submitit.core.utils.FailedJobError) as error:
            return " ".join(str(error).split())[:300]


def options(resources: Resources, need: Need, after: Sequence[str]) -> dict[str, Any]:
    """What submitit is told of an array.

    Args:
        resources: with the user's own options.
        need: of each of its jobs; where the recipe says no number of GPUs, one, unless none has a use for it.
        after: jobs that must have ended before, however: a part looks by itself at whether what it needs is there.
    """
    gpus = 1 if need.gpus is None else need.gpus
    if gpus != int(gpus):
        raise InputError(f"resources.gpus: SLURM gives whole GPUs, not {gpus:g}: give a whole number")
    more = {"dependency": f"afterany:{':'.join(after)}"} if after else {}
    return {
        "name": "midistill",
        "timeout_min": DAY,
        "cpus_per_task": need.cpus or 1,
        **({"gpus_per_node": int(gpus)} if gpus else {}),
        **({"mem_gb": -(-need.memory // GB)} if need.memory else {}),
        "slurm_additional_parameters": {**resources.slurm, **more},
    }


class Task:
    """What a job does; SLURM's word that its time is up, or another's has come, lets it end with a checkpoint and has
    the same again in a new job."""

    def __init__(self, arguments: Sequence[str], logs: Path, cwd: str, cpus: int) -> None:
        self.given = arguments, logs, cwd, cpus
        self.process: subprocess.Popen[bytes] | None = None

    def __call__(self) -> int:
        """The exit status of the command."""
        arguments, logs, cwd, cpus = self.given
        self.process = child.begin(arguments, logs, child.threads(cpus), cwd)
        return child.wait(self.process)

    def checkpoint(self) -> Any:
        """Called by submitit in the signal's handler."""
        from submitit.helpers import DelayedSubmission

        if self.process is not None:
            child.stop([self.process])
        return DelayedSubmission(Task(*self.given))
