"""Parts in forks end in order with the study, whoever is killed; where no server can be they are processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from multiprocessing import process
from multiprocessing.forkserver import ForkServer
from pathlib import Path

import pytest

from midistill_tasks.models import reload
from midistill_tasks.study.executors import child, forks
from midistill_tasks.study.executors.local import Local
from midistill_tasks.study.executors.resources import Need, Resources
from midistill_tasks.study.executors.unit import Unit

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="parts are forked on Linux alone")

PART = """
import os, signal, time
asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
print("begun with", os.environ["OF_THE_SERVER"], os.getpid(), flush=True)
while not asked:
    time.sleep(0.02)
time.sleep(0.5)
print("checkpoint written", flush=True)
"""
STUDY = """
import os, signal, sys
from multiprocessing import forkserver
from pathlib import Path
from midistill_tasks.study.executors import child, forks
forks.LIBRARIES, child.COMMAND = [], ("a_part",)  # in the fork, too, which imports this file

def stop(*_):
    raise KeyboardInterrupt

if __name__ == "__main__":
    for number in (signal.SIGTERM, signal.SIGINT):  # the latter is ignored in what a shell put into the background
        signal.signal(number, stop)
    forks.start_server({"OF_THE_SERVER": "this"})
    for name in sys.argv[1:]:
        part = forks.begin([], Path(name), {})
        try:  # a test that has read this line may signal at once
            print(forkserver._forkserver._forkserver_pid, flush=True)
            print("ended with", child.wait(part), flush=True)
        except KeyboardInterrupt:
            print("asked to stop, ended with", part.returncode, flush=True)
"""


@pytest.fixture
def study(tmp_path):
    """``study("one", "two")`` has these parts one after another, as the leader of a process group."""
    (tmp_path / "a_part.py").write_text(PART)
    (tmp_path / "a_study.py").write_text(STUDY)
    paths = os.pathsep.join([str(tmp_path), str(Path(forks.__file__).parents[3])])
    env, began = {**os.environ, "PYTHONPATH": paths}, []

    def start(*parts):
        command, kept = [sys.executable, "a_study.py", *parts], {"cwd": tmp_path, "env": env, "text": True}
        began.append(subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True, **kept))
        return began[-1]

    yield start
    for ours in began:
        ours.kill()
        ours.communicate()


def begun(log: Path) -> int:
    """Process id of a part that says that it has begun."""
    wait_for(lambda: log.exists() and log.read_text().endswith("\n") and "begun with" in log.read_text())
    (line,) = [line for line in log.read_text().splitlines() if line.startswith("begun")]
    assert line.startswith("begun with this ")
    return int(line.split()[-1])


def is_there(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(true) -> None:
    until = time.monotonic() + 20
    while not true():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_whole_group_lets_parts_write_a_checkpoint_and_leaves_nobody(study, tmp_path, number):
    ours = study("one")
    log = tmp_path / "one" / "output.log"
    part, server = begun(log), int(ours.stdout.readline())
    os.killpg(ours.pid, number)
    assert ours.communicate(timeout=20)[0] == "asked to stop, ended with 0\n"
    assert log.read_text().endswith("checkpoint written\n")
    wait_for(lambda: not is_there(part) and not is_there(server))


def test_a_study_that_is_killed_leaves_nobody(study, tmp_path):
    ours = study("one")
    part, server = begun(tmp_path / "one" / "output.log"), int(ours.stdout.readline())
    ours.kill()
    wait_for(lambda: not is_there(part) and not is_there(server))


def test_where_the_server_is_killed_its_parts_end_and_the_next_find_another_as_it_was(study, tmp_path):
    ours = study("one", "two")
    one, server = begun(tmp_path / "one" / "output.log"), int(ours.stdout.readline())
    os.kill(server, signal.SIGKILL)
    assert ours.stdout.readline() == "ended with 255\n"
    wait_for(lambda: not is_there(one))
    two, other = begun(tmp_path / "two" / "output.log"), int(ours.stdout.readline())
    assert other != server
    os.killpg(ours.pid, signal.SIGTERM)
    assert ours.communicate(timeout=20)[0] == "asked to stop, ended with 0\n"
    wait_for(lambda: not is_there(two) and not is_there(other))


def test_where_temporary_files_lie_too_deep_for_a_socket_parts_are_processes(tmp_path, monkeypatch):
    deep = tmp_path / ("a" * 100)
    deep.mkdir()
    monkeypatch.setitem(process.current_process()._config, "tempdir", str(deep))
    monkeypatch.setattr(forks, "forkserver", ForkServer())
    monkeypatch.setattr(forks, "possible", lambda: True)
    monkeypatch.setattr(reload, "shared", dict)
    executor = Local(2)
    executor.check(tmp_path, Resources(), [Unit("0", (), Need(0, None, None), ["--version"], tmp_path / "0", ())])
    assert executor.begin is child.begin
