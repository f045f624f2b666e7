"""Fresh processes, each with nothing of this one's but its imports.

To import torch and transformers takes seconds, so a server that has done nothing else forks one process for each task:
they know no model, seed or setting of ours, nor of each other. Where that is not safe each is begun from nothing.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

_LAUNCHER = ("ACCELERATE_", "FSDP_", "RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_")
_SHARED = "MIDISTILL_FRESH"


def run(module: str, arguments: Sequence[str], forked: bool) -> tuple[int, str]:
    """Runs ``python -m module arguments``: its exit status and what it said on stderr.

    Args:
        module: with a function ``main`` of the arguments.
        arguments: of the command line.
        forked: by a server, where the system can; not for a process that uses a GPU, which does not survive a fork.
    """
    if forked and sys.platform == "linux":
        with TemporaryDirectory() as folder:
            answer = _ask(_address(module), {"arguments": list(arguments), "said": f"{folder}/said"})
            if answer is not None:
                return answer, Path(folder, "said").read_text(encoding="utf-8", errors="replace")
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, env=_environment(), capture_output=True, text=True, check=False)  # noqa: S603
    return done.returncode, done.stderr


def shared(module: str) -> dict[str, str]:
    """The environment of processes that ask this one's server, and have none of their own: it loads what it needs once.

    It is there as long as this process is.
    """
    return {_SHARED: f"{module}={_server(module).address}"} if sys.platform == "linux" else {}


class _Server:
    def __init__(self, module: str) -> None:
        command = [sys.executable, "-m", __name__, module]
        # A session of its own: Ctrl-C is for us. It ends with us, when nobody holds its stdin any more.
        self.process = subprocess.Popen(  # noqa: S603
            command, env=_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            text=True, start_new_session=True,
        )  # fmt: skip
        atexit.register(self.close)
        self.address = self.process.stdout.readline().strip() if self.process.stdout else ""

    def close(self) -> None:
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


def _address(module: str) -> str:
    """Where a server listens: the one that is shared with this process, or its own."""
    name, _, address = os.environ.get(_SHARED, "").partition("=")
    return address if name == module else _server(module).address


def _ask(address: str, task: Mapping[str, Any]) -> int | None:
    """The exit status of a task; None where the server is gone."""
    try:
        with socket.socket(socket.AF_UNIX) as asking:
            asking.connect(address)
            with asking.makefile("rw", encoding="utf-8") as lines:
                print(json.dumps(task), file=lines, flush=True)
                return int(lines.readline())
    except (OSError, ValueError):
        return None


def _environment() -> dict[str, str]:
    """Ours, without what a launcher sets for its own processes, and with our package on the path."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(_LAUNCHER)}
    paths = [str(Path(__file__).parents[2]), *kept.get("PYTHONPATH", "").split(os.pathsep)]
    return {**kept, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def _serve(module: str) -> None:
    """The server: says where it listens, and forks a process of each that asks, until its stdin ends."""
    with TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{folder}/asked")
        listening.listen()
        print(listening.getsockname(), flush=True)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for these
        while sys.stdin not in select.select([sys.stdin, listening], [], [])[0]:
            client, _ = listening.accept()
            main = importlib.import_module(module).main  # for the first one, and those that are forked after it
            if not os.fork():
                try:
                    _answer(main, client)
                finally:  # whatever was raised: it would remove the server's folder on its way up
                    os._exit(0)
            client.close()


def _answer(main: Any, client: socket.socket) -> None:
    """Does the task of a client in a process of its own, and sends the exit status."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with client.makefile("rw", encoding="utf-8") as lines:
        task = json.loads(lines.readline())
        child = os.fork()
        if not child:
            status = 1
            try:
                status = _do(main, **task)
            finally:  # also where the client took its folder away
                os._exit(status)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), file=lines, flush=True)


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
