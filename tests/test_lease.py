"""On a file system that carries no lock from one machine to another, and of a machine that died."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

import pytest

from midistill_tasks import lease, locks
from midistill_tasks.errors import InputError
from midistill_tasks.locks import held, held_beside

BEAT, DEAD = 0.1, 1.0
PROGRAM = f"""
import sys, time
from pathlib import Path
from midistill_tasks import lease
lease.BEAT, lease.DEAD, lease.machine = {BEAT}, {DEAD}, lambda: "another"
lease.socket.gethostname = lambda: "another-host"
from midistill_tasks.locks import held
with held(Path(sys.argv[1]), "output"):
    print("held", flush=True)
    sys.stdin.readline()
"""


class Deaf:
    """A lock that no other machine hears of."""

    is_locked = True

    def __init__(self, path):
        self.path = path

    def acquire(self, timeout=0):
        self.path.touch()

    def release(self):
        pass


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A process of another machine that holds ``out``; this one does not see its lock."""
    monkeypatch.setattr(lease, "BEAT", BEAT)
    monkeypatch.setattr(lease, "DEAD", DEAD)
    monkeypatch.setattr(locks, "FileLock", Deaf)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    other = subprocess.Popen([sys.executable, "-c", PROGRAM, str(tmp_path / "out")], text=True, **pipes)
    assert other.stdout.readline() == "held\n"
    yield other
    other.send_signal(signal.SIGCONT)
    other.kill()
    other.communicate()


def test_a_holder_that_counts_on_is_named_at_once(elsewhere, tmp_path):
    began = time.monotonic()
    said = rf"\(host another-host, process {elsewhere.pid}, since 20.+\) is at work on"
    with pytest.raises(InputError, match=said), held(tmp_path / "out", "output"):
        pytest.fail("two at work")
    assert time.monotonic() - began < DEAD
    elsewhere.communicate("\n")
    assert elsewhere.returncode == 0
    with held(tmp_path / "out", "output"):
        pass
    assert list(tmp_path.iterdir()) == [] or not any((tmp_path / "out").iterdir())


def test_what_a_dead_machine_held_is_free_once_it_stood_still(elsewhere, tmp_path):
    elsewhere.kill()
    began = time.monotonic()
    with held(tmp_path / "out", "output"):
        assert DEAD <= time.monotonic() - began < DEAD + 2
        assert json.loads((tmp_path / "out" / ".midistill.holder").read_text())["pid"] == os.getpid()
        time.sleep(3 * BEAT)
        assert json.loads((tmp_path / "out" / ".midistill.holder").read_text())["count"] > 0


def test_a_holder_that_only_stood_still_ends_when_it_finds_another_in_its_place(elsewhere, tmp_path):
    elsewhere.send_signal(signal.SIGSTOP)
    with held(tmp_path / "out", "output"):
        elsewhere.send_signal(signal.SIGCONT)
        assert elsewhere.wait(10) == 1
        assert "taken by another machine" in elsewhere.stderr.read()
        assert json.loads((tmp_path / "out" / ".midistill.holder").read_text())["pid"] == os.getpid()


def test_who_waits_gets_it_when_the_other_is_through(elsewhere, tmp_path):
    (tmp_path / "out" / "keeps the folder").touch()
    threading.Timer(3 * DEAD, lambda: print(file=elsewhere.stdin, flush=True)).start()
    began = time.monotonic()
    mine = lease.Lease(tmp_path / "out" / ".midistill.holder")
    mine.take(wait=True)
    assert time.monotonic() - began > 2 * DEAD
    mine.release()


@pytest.mark.parametrize("round_", range(4))
def test_of_several_that_find_a_dead_one_s_one_has_it(tmp_path, monkeypatch, round_):
    monkeypatch.setattr(lease, "BEAT", 0.05)
    monkeypatch.setattr(lease, "DEAD", 1.0)
    monkeypatch.setattr(os, "_exit", sys.exit)  # the thread alone, of one whose lease was taken from it
    path = tmp_path / ".midistill.holder"
    path.write_text(json.dumps({"machine": "another", "lease": "dead", "count": 3}))
    leases = [lease.Lease(path) for _ in range(8)]
    had = []

    def take(mine):
        with suppress(lease.HeldElsewhereError):
            mine.take(wait=False)
            had.append(mine)

    for number, mine in enumerate(leases):
        mine.said["machine"] = f"machine {number}"
    threads = [threading.Thread(target=take, args=[mine]) for mine in leases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(had) == 1
    had[0].release()
    assert list(tmp_path.iterdir()) == []


def test_one_who_died_while_it_was_his_turn_keeps_nobody_waiting(tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "DEAD", 0.3)
    path = tmp_path / ".midistill.holder"
    path.write_text(json.dumps({"machine": "another", "lease": "dead", "count": 3}))
    (tmp_path / ".midistill.holder.dead").touch()
    mine = lease.Lease(path)
    mine.take(wait=False)
    mine.release()
    assert list(tmp_path.iterdir()) == []


def test_what_a_dead_process_of_this_machine_held_is_free_at_once(tmp_path):
    (tmp_path / ".out.midistill.holder").write_text(json.dumps({"host": "x", "pid": 1, "machine": lease.machine()}))
    began = time.monotonic()
    with held_beside(tmp_path / "out", "output"):
        assert time.monotonic() - began < 1
    assert list(tmp_path.iterdir()) == []
