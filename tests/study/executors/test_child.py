"""A unit's process does not outlive the one that waits for it, and loads nothing before its command does."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from midistill_tasks.study.executors import child

PARENT = """
import sys, time
from pathlib import Path
from midistill_tasks.study.executors import child, meeting
assert not {"torch", "lm_eval", "transformers"} & set(sys.modules)
child.COMMAND = (sys.executable, "-c", "import time; time.sleep(60)")
print(child.begin([], Path("logs"), {}, sys.argv[1]).pid, flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux alone says when a parent dies")
def test_it_dies_with_a_parent_that_is_killed(tmp_path):
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    pid = int(parent.stdout.readline())
    assert (tmp_path / "logs" / "node").read_text().endswith(f", process {pid}")
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    until = time.monotonic() + 20
    while Path(f"/proc/{pid}").exists() and "State:\tZ" not in Path(f"/proc/{pid}/status").read_text():
        assert time.monotonic() < until, "it lives on"
        time.sleep(0.05)


def test_what_does_not_stop_when_asked_is_killed(tmp_path, monkeypatch):
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"
    monkeypatch.setattr(child, "COMMAND", (sys.executable, "-c"))
    monkeypatch.setattr(child, "GRACE", 0.3)
    process = child.begin([deaf], tmp_path, {})
    while not (tmp_path / "output.log").read_text().endswith("\n1\n"):
        time.sleep(0.02)
    child.stop([process])
    assert process.returncode == -signal.SIGKILL
    assert child.said(process.returncode) == "killed by SIGKILL"
