"""Other processes that begin with torch, transformers and the harness imported, which takes four seconds each.

They are forked from a server that has done nothing but import, so that they know no model, no seed and no setting of
this process: what a killed run left, or what a model's folder holds, is read by them as by any other process. Tests
of a process from its very beginning (what it imports, its plugin, a launcher) use `subprocess`.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import pytest

_IMPORTED = ["torch", "lm_eval.evaluator", "lm_eval.models.huggingface", "transformers.trainer", "accelerate"]
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(_IMPORTED)


def start(command: Sequence[str], said: str = os.devnull, env: Mapping[str, str] | None = None) -> Any:
    """The process (`pid`, `exitcode`, `kill`, `join`) that runs ``[python, "-m", module, …]``, ``-c`` or a script.

    `said` is the file into which all goes that it prints.
    """
    process = _context.Process(target=_main, args=(list(command[1:]), said, dict(env or os.environ)))
    process.start()
    return process


def run(command: Sequence[str], env: Mapping[str, str] | None = None, **_: Any) -> subprocess.CompletedProcess[str]:
    """As `subprocess.run` with ``text=True``; what it printed is its ``stderr``."""
    with TemporaryDirectory() as folder:
        process = start(command, f"{folder}/said", env)
        process.join(600)
        return subprocess.CompletedProcess(command, process.exitcode, "", Path(folder, "said").read_text())


def _main(arguments: list[str], said: str, env: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(env)
    sys.path[:0] = filter(None, env.get("PYTHONPATH", "").split(os.pathsep))
    with open(said, "w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    elif arguments[0] == "-c":
        sys.argv = ["-c", *arguments[2:]]
        exec(arguments[1], {"__name__": "__main__"})  # noqa: S102 (the test's own code)
    else:
        sys.argv = arguments
        runpy.run_path(arguments[0], run_name="__main__")


@pytest.fixture(scope="session", autouse=True)
def _warm_reload() -> Iterator[None]:
    """The process that reads a saved student again is one of these; in test_saving.py it is one from its beginning."""
    from midistill_tasks.models import reload

    def warm(module: str, arguments: Sequence[str], forked: bool) -> tuple[int, str]:
        done = run([sys.executable, "-m", module, *arguments])
        return done.returncode, done.stderr

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reload, "fresh", SimpleNamespace(run=warm, shared=lambda _: {}))
        yield


@pytest.fixture(scope="session", autouse=True)
def _one_description() -> Iterator[None]:
    """The harness describes the machine in every result, which takes a second: here once a session."""
    import torch.utils.collect_env as described

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(described, "get_pretty_env_info", cache(described.get_pretty_env_info))
        yield
