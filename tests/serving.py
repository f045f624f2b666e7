"""Real servers in processes of their own."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def serving(module: str, arguments: Sequence[str], log: Path) -> Iterator[str]:
    """``python -m MODULE … --port PORT`` until it lists its models: its completions address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", module, *arguments, "--port", str(port)]
    with open(log, "wb") as file, subprocess.Popen(command, stdout=file, stderr=file) as server:
        try:
            for _ in range(120):
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models").close()
                    break
                except OSError:
                    assert server.poll() is None, log.read_text()[-2000:]
                    time.sleep(1)
            yield f"http://127.0.0.1:{port}/v1/completions"
        finally:
            server.terminate()
