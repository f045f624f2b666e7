"""Who works on a folder is alone there, and a dead process never is."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from filelock import FileLock

from midistill_tasks.errors import InputError
from midistill_tasks.locks import held, held_beside, is_empty

HOLDER = """
import sys, time
from pathlib import Path
from midistill_tasks.locks import held, held_beside
with {how}(Path(sys.argv[1]), "output"):
    print("held", flush=True)
    time.sleep(120)
"""


@pytest.fixture(params=["held", "held_beside"])
def at_work(request, tmp_path):
    """Another process that holds ``out``, and how this one would."""
    program = HOLDER.format(how=request.param)
    other = subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "out")], stdout=subprocess.PIPE)
    assert other.stdout.readline() == b"held\n"
    yield other, {"held": held, "held_beside": held_beside}[request.param]
    other.kill()
    other.communicate()


def test_who_is_at_work_is_said_and_a_killed_holder_holds_nothing(at_work, tmp_path):
    other, hold = at_work
    said = rf"output: another process \(host .+, process {other.pid}, since 20.+\) is at work on .*out: wait"
    with pytest.raises(InputError, match=said), hold(tmp_path / "out", "output"):
        pytest.fail("two at work")
    other.send_signal(signal.SIGKILL)
    other.wait()
    with hold(tmp_path / "out", "output"):
        assert (tmp_path / "out").exists() == (hold is held)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_who_waits_goes_on_as_soon_as_the_other_is_through(tmp_path, caplog):
    order = []

    def second():
        with held_beside(tmp_path / "t", "teacher.fine_tune.folder", wait=True):
            order.append("second")

    with caplog.at_level("INFO"), held_beside(tmp_path / "t", "teacher.fine_tune.folder"):
        thread = threading.Thread(target=second)
        thread.start()
        while "waiting until it is through" not in caplog.text:
            time.sleep(0.01)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    assert f"process {os.getpid()}, since" in caplog.text
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_said(tmp_path, monkeypatch, number):
    def none(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(FileLock, "acquire", none)
    for hold in (held, held_beside):
        with (
            pytest.raises(
                InputError, match=r"output: .*out is on a file system without locks \(.*\): give a folder on"
            ),
            hold(tmp_path / "out", "output"),
        ):
            pytest.fail("held")


def test_a_folder_in_which_nothing_came_about_is_gone_unless_it_was_there(tmp_path):
    (tmp_path / "there").mkdir()
    for name in ("there", "new"):
        with held(tmp_path / name, "output"):
            assert is_empty(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_a_place_that_cannot_be_written_is_said_before_any_work(tmp_path):
    (tmp_path / "file").touch()
    for hold in (held, held_beside):
        with pytest.raises(InputError, match=r"--output: .*run cannot be written .*give a folder that can be written"):
            hold(tmp_path / "file" / "run", "--output").__enter__()
