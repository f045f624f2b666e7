"""Processes that know nothing of this one, quick where they are forked by a server that has imported the libraries."""

from __future__ import annotations

import os
import sys
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
