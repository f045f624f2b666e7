"""Processes that know nothing of this one, quick where they are forked by a server that has imported the libraries."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from pathlib import Path

import pytest

from midistill_tasks.models import fresh

TASK = """
import os, sys
TASKS = []
def main(arguments):
    TASKS.append(1)
    if arguments[0] == "die":
        os.kill(os.getpid(), 9)
    if arguments[0] == "fail":
        raise ValueError("it is so")
    if arguments[0] == "wait":
        with open(arguments[1] + "/begun", "w"):
            pass
        while not os.path.exists(arguments[1] + "/go on"):
            pass
        return
    with open(arguments[0], "w") as file:
        file.write(f"{len(TASKS)} {os.getpid()} {os.getppid()}")
if __name__ == "__main__":
    main(sys.argv[1:])
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "a_task.py").write_text(TASK)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(fresh, "_servers", {})
    yield "a_task"
    for server in fresh._servers.values():
        server.close()


def said(path: Path) -> list[int]:
    return [int(part) for part in path.read_text().split()]


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux alone")
def test_each_task_has_a_process_of_its_own_and_a_failed_one_harms_no_other(module, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    assert fresh.run(module, [str(first)], forked=True) == (0, "")
    status, error = fresh.run(module, ["fail"], forked=True)
    assert status == 1
    assert error.strip().endswith("ValueError: it is so")
    assert fresh.run(module, ["die"], forked=True) == (-9, "")
    assert fresh.run(module, [str(second)], forked=True) == (0, "")
    (count, process, parent), (count_later, later, parent_later) = said(first), said(second)
    assert count == count_later == 1
    assert len({process, later, parent, parent_later, os.getpid()}) == 5
    assert len(fresh._servers) == 1


def test_without_a_fork_or_a_server_it_is_begun_from_nothing(module, tmp_path):
    assert fresh.run(module, [str(tmp_path / "first")], forked=False) == (0, "")
    assert said(tmp_path / "first")[2] == os.getpid()
    fresh._server(module).process.kill()
    fresh._server(module).process.wait()
    assert fresh.run(module, [str(tmp_path / "second")], forked=True) == (0, "")
    assert said(tmp_path / "second")[2] == os.getpid()


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux alone")
def test_a_process_asks_the_server_of_another_one_as_long_as_it_is_there(module, tmp_path, monkeypatch):
    for name, value in fresh.shared(module).items():
        monkeypatch.setenv(name, value)
    ours = fresh._server(module).process
    monkeypatch.setattr(fresh, "_servers", {})  # as another process has none
    assert fresh.run(module, [str(tmp_path / "first")], forked=True) == (0, "")
    assert fresh.run(module, ["die"], forked=True) == (-9, "")
    assert fresh._servers == {}
    ours.stdin.close()
    ours.wait()
    assert fresh.run(module, [str(tmp_path / "second")], forked=True) == (0, "")
    assert said(tmp_path / "second")[2] == os.getpid()


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux alone")
@pytest.mark.parametrize("gone", ["while its task is done", "before it is begun"])
def test_a_client_that_is_killed_takes_the_server_from_nobody(gone, module, tmp_path):
    server = fresh._server(module)
    folder = tmp_path if gone == "while its task is done" else tmp_path / "removed"
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(server.address)
        task = {"arguments": ["wait", str(tmp_path)], "said": str(folder / "said")}
        client.sendall(json.dumps(task).encode() + b"\n")
        if folder == tmp_path:
            wait_for(lambda: (tmp_path / "begun").exists())
        else:
            assert client.makefile().readline() == "1\n"
    (tmp_path / "go on").touch()
    wait_for(lambda: not children(server.process.pid))
    assert Path(server.address).exists()
    assert fresh.run(module, [str(tmp_path / "next")], forked=True) == (0, "")
    assert said(tmp_path / "next")[2] != os.getpid()


def children(pid: int) -> str:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text()


def wait_for(true) -> None:
    until = time.monotonic() + 20
    while not true():
        assert time.monotonic() < until
        time.sleep(0.02)
