"""Small studies that run for real, and what came out of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import yaml

from midistill_tasks.results.roles import read_group

COMMAND = [sys.executable, "-m", "midistill_tasks.cli", "study"]
STUDENTS = {
    "arms": {"vanilla": {}, "kept": {"non_vulnerable": True}},
    "controls": {"kept": "vanilla"},
    "train": {"epochs": 12, "warmup_steps": 1, "save_every": 5},
}


def recipe_of(study, path):
    """The file, written as a user would."""
    path.write_text(yaml.safe_dump(study.model_dump(mode="json"), sort_keys=False))
    return str(path)


def figures(study):
    """All scores, and the students' weights to the bit."""
    scores = [
        (item.id, item.score)
        for run in read_group([study.output]).runs
        for task in run.tasks.values()
        for item in task.items
    ]
    weights = sorted(Path(study.output).glob("students/*/*/model.safetensors"))
    return scores, [(str(path.relative_to(study.output)), path.read_bytes()) for path in weights]


def start(*arguments, **env):
    """The command, in a session of its own, as a shell starts it: it hears Ctrl-C, even where the tests themselves run
    in the background of a shell, which has them ignore it."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen([*COMMAND, *arguments], env={**os.environ, **env}, start_new_session=True, **pipes)
    finally:
        signal.signal(signal.SIGINT, before)


def wait_for(process, *paths, seconds=300):
    """Until all are there, while the process runs."""
    until = time.monotonic() + seconds
    while not all(map(os.path.exists, paths)):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < until, f"{paths} never came"
        time.sleep(0.05)


def checkpoint(study, student, step):
    return f"{study.output}/students/{student}/checkpoints/checkpoint-{step}/midistill_whole.json"


def interrupted(process):
    """Ctrl-C; what it said, once it has ended."""
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=200)[0]
    assert process.returncode == 130, said
    return said
