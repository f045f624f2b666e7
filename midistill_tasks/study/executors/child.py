"""A unit's command as a process that cannot outlive the one that waits for it."""

from __future__ import annotations

import ctypes
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Protocol

OUTPUT, NODE = "output.log", "node"
"""In a unit's folder of logs: all that it prints, and on which host and as which process it runs."""
COMMAND = (sys.executable, "-m", "midistill_tasks.cli")
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
GRACE = 120.0
"""Seconds in which a part that is asked to stop may end its step and write a checkpoint."""
VISIBLE = 60.0
"""Seconds until what one node wrote must be seen by another: folders of a network are remembered for so long."""
_POLL = 0.2
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of <linux/prctl.h>


class Running(Protocol):
    """A process of a unit, as `subprocess.Popen` is one."""

    @property
    def returncode(self) -> int | None:
        """Its exit status, less than 0 by a signal; None = it runs."""

    def poll(self) -> int | None:
        """The same, after a look."""

    def wait(self, timeout: float | None = None) -> int | None:
        """Waits for it, or raises `subprocess.TimeoutExpired`."""

    def terminate(self) -> None:
        """SIGTERM."""

    def kill(self) -> None:
        """SIGKILL."""


def begin(
    arguments: Sequence[str], logs: Path, env: Mapping[str, str], cwd: str | None = None
) -> subprocess.Popen[bytes]:
    """Starts ``midistill ARGUMENTS`` in this interpreter's environment; what it prints is appended to its log.

    Where this process is killed, so is that one (on Linux): else it would train on while another takes its place.

    Args:
        arguments: behind ``midistill``.
        logs: the folder of its logs, relative to `cwd` or not.
        env: added to this process's environment.
        cwd: where relative paths start; None = here.
    """
    logs = Path(cwd or ".") / logs
    logs.mkdir(parents=True, exist_ok=True)
    with log(logs, arguments) as file:
        process = subprocess.Popen(  # noqa: S603 (midistill itself)
            [*COMMAND, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env={**os.environ, **env},
            start_new_session=True,  # a terminal's Ctrl-C reaches the study alone, which stops its parts in order
            preexec_fn=_with_parent(os.getpid()),
        )
    note(logs, process.pid)
    return process


def log(logs: Path, arguments: Sequence[str]) -> BinaryIO:
    """What all that a unit prints is appended to, from its command on."""
    file = (logs / OUTPUT).open("ab", buffering=0)
    file.write(f"\n$ {shlex.join(['midistill', *arguments])}\n".encode())
    return file


def note(logs: Path, pid: int | None) -> None:
    """Writes down where the unit runs."""
    (logs / NODE).write_text(f"{socket.gethostname()}, process {pid}", encoding="utf-8")


def run(arguments: Sequence[str], logs: Path, cwd: str, env: Mapping[str, str]) -> int:
    """The exit status of the command; where this process is asked to stop, the command is, too, and waited for."""
    # By which Ray cancels, and which a cluster that was begun in a shell's background would not hear.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return wait(begin(arguments, logs, env, cwd))


def wait(process: subprocess.Popen[bytes]) -> int:
    """Its exit status; where this process is asked to stop, so is it."""
    try:
        while process.poll() is None:
            time.sleep(_POLL)
    finally:
        stop([process])
    return process.returncode


def stop(processes: Sequence[Running]) -> None:
    """SIGTERM, by which a training writes a checkpoint, and SIGKILL to what has not ended in time."""
    running = [process for process in processes if process.poll() is None]
    for process in running:
        process.terminate()
    until = time.monotonic() + GRACE
    try:
        for process in running:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, until - time.monotonic()))
    finally:  # also after a second Ctrl-C
        for process in running:
            if process.poll() is None:
                process.kill()
                process.wait()


def threads(number: int) -> dict[str, str]:
    """The environment of so many threads, unless this one says otherwise: more threads than cores stand in each
    other's way, and two processes of two threads each on two cores take ten times as long."""
    said = {name: os.environ[name] for name in THREADS if name in os.environ}
    return said or {"OMP_NUM_THREADS": str(number)}


def _with_parent(parent: int) -> Callable[[], None] | None:
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)  # before the fork, after which only what is safe may run

    def die_with_parent() -> None:
        libc.prctl(_DIE_WITH_PARENT, signal.SIGKILL)
        if os.getppid() != parent:  # it died in between
            os._exit(1)

    return die_with_parent


def is_there(path: Path) -> bool:
    """Asks the folder above: a network's file system looks again then, and does not say what it remembers."""
    return path.parent.is_dir() and path.name in os.listdir(path.parent)


def read_soon(path: Path) -> str:
    """What another node wrote there; "" = after `VISIBLE` seconds it is not to be seen."""
    until = time.monotonic() + VISIBLE
    while not is_there(path):
        if time.monotonic() > until:
            return ""
        time.sleep(_POLL)
    return path.read_text(encoding="utf-8")


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def said(status: int) -> str:
    """How a process ended, for people; "" = well."""
    if status < 0:
        return f"killed by {signal.Signals(-status).name}"
    return f"exit status {status}" if status else ""
