"""A unit's command in a fork of a server that has loaded the libraries: loading them takes longer than many a part.

The server is `multiprocessing`'s. It runs no operation of torch, so no thread and no GPU's state is forked with it.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from multiprocessing import forkserver, resource_tracker
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from midistill_tasks.study.executors import child

LIBRARIES = [
    "midistill_tasks.cli.study",
    "midistill_tasks.study.run",
    "midistill_tasks.distill.run",
    "midistill_tasks.harness.task",
    "midistill_tasks.scoring.backends.hf.causal",
    "lm_eval.evaluator",
    "lm_eval.models.huggingface",
]
"""With all that they import in their turn."""
_ASKING = {signal.SIGINT, signal.SIGTERM}
"""The server does not hear them, though they reach the study's whole process group: it tells how the parts end."""
_environment: dict[str, str] = {}
"""What the server has beside this process's; so has one that is started in the place of a killed one."""


class Fork:
    """A process that was forked, with what `child.stop` needs of `subprocess.Popen`."""

    def __init__(self, process: ForkServerProcess) -> None:
        self._process = process
        self.terminate, self.kill = process.terminate, process.kill

    @property
    def returncode(self) -> int | None:
        """As `subprocess.Popen` has it; looks now."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """As `subprocess.Popen` has it."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int | None:
        """As `subprocess.Popen` has it."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(str(self._process.name), timeout or 0.0)
        return self._process.exitcode


def possible() -> bool:
    """Elsewhere system libraries do not bear a fork without exec; nor does CUDA, which a library may ask for GPUs."""
    import torch

    return sys.platform.startswith("linux") and not torch.cuda.is_available()


def start_server(env: Mapping[str, str]) -> None:
    """Has the libraries loaded, with this added to the environment: how many threads to start they ask then.

    Raises:
        OSError: the folder for temporary files has a name too long for a socket's.
    """
    _environment.update(env)
    resource_tracker.ensure_running()  # before: as it starts it unblocks signals
    before, mask = dict(os.environ), signal.pthread_sigmask(signal.SIG_BLOCK, _ASKING)
    os.environ.update(_environment)
    try:
        forkserver.set_forkserver_preload(LIBRARIES)
        forkserver.ensure_running()
    finally:
        os.environ.clear()
        os.environ.update(before)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def begin(arguments: Sequence[str], logs: Path, env: Mapping[str, str]) -> Fork:
    """As `child.begin`, in the folder where the server was started."""
    logs.mkdir(parents=True, exist_ok=True)
    start_server(_environment)  # anew, where it was killed
    process = multiprocessing.get_context("forkserver").Process(target=_work, args=(list(arguments), logs, dict(env)))
    process.start()
    child.note(logs, process.pid)
    return Fork(process)


def _work(arguments: list[str], logs: Path, env: Mapping[str, str]) -> None:
    """In the fork."""
    os.setsid()  # a terminal's Ctrl-C reaches the study alone, which stops its parts in order
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ASKING)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    os.environ.update(env)
    with child.log(logs, arguments) as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    sys.argv = ["midistill", *arguments]
    runpy.run_module(child.COMMAND[-1], run_name="__main__")


def _die_with_parent() -> None:
    study = multiprocessing.parent_process()
    if study is not None:
        study.join()
        os.kill(os.getpid(), signal.SIGKILL)
