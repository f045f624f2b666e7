"""Fresh processes, each with nothing of this one's but its imports.

To import torch and transformers takes seconds, so a server that has done nothing else forks one process for each task:
they know no model, seed or setting of ours, nor of each other. Where that is not safe each is begun from nothing.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

_LAUNCHER = ("ACCELERATE_", "FSDP_", "RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_")


def run(module: str, arguments: Sequence[str], forked: bool) -> tuple[int, str]:
    """Runs ``python -m module arguments``: its exit status and what it said on stderr.

    Args:
        module: with a function ``main`` of the arguments.
        arguments: of the command line.
        forked: by a server, where the system can; not for a process that uses a GPU, which does not survive a fork.
    """
    if forked and sys.platform == "linux":
        with TemporaryDirectory() as folder:
            answer = _server(module).ask({"arguments": list(arguments), "said": f"{folder}/said"})
            if answer is not None:
                return answer, Path(folder, "said").read_text(encoding="utf-8", errors="replace")
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, env=_environment(), capture_output=True, text=True, check=False)  # noqa: S603
    return done.returncode, done.stderr


class _Server:
    def __init__(self, module: str) -> None:
        command = [sys.executable, "-m", __name__, module]
        # A session of its own: Ctrl-C is for us. It ends with us, when nobody holds its stdin any more.
        self.process = subprocess.Popen(  # noqa: S603
            command, env=_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            text=True, start_new_session=True,
        )  # fmt: skip
        atexit.register(self.close)

    def ask(self, task: Mapping[str, Any]) -> int | None:
        """The exit status of a task; None where the server is gone."""
        ours, theirs = self.process.stdin, self.process.stdout
        try:
            print(json.dumps(task), file=ours, flush=True)
            return int(theirs.readline()) if theirs else None
        except (OSError, ValueError):
            return None

    def close(self) -> None:
        with suppress(OSError):  # what was written to a server that is gone
            if self.process.stdin:
                self.process.stdin.close()
        self.process.wait()


_servers: dict[tuple[int, str], _Server] = {}


def _server(module: str) -> _Server:
    """That of this process: one that was forked from it has its own."""
    key = os.getpid(), module
    if key not in _servers:
        _servers[key] = _Server(module)
    return _servers[key]


def _environment() -> dict[str, str]:
    """Ours, without what a launcher sets for its own processes, and with our package on the path."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(_LAUNCHER)}
    paths = [str(Path(__file__).parents[2]), *kept.get("PYTHONPATH", "").split(os.pathsep)]
    return {**kept, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def _serve(module: str) -> None:
    """The server: of each line of its stdin a process, whose exit status is a line of its stdout."""
    main = importlib.import_module(module).main
    for line in sys.stdin:
        task = json.loads(line)
        child = os.fork()
        if not child:
            os._exit(_do(main, **task))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _do(main: Any, arguments: Sequence[str], said: str) -> int:
    with open(said, "w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
    try:
        main(arguments)
    except BaseException:  # whatever it is, it is told, and the server goes on
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    _serve(sys.argv[1])
