"""Somebody who distils: what it costs first, a preemption amid it, and a student that the harness loads and attacks."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time

import pytest
import yaml

from .conftest import COMMANDS

pytestmark = pytest.mark.slow


@pytest.fixture
def recipe(people, leaking, tmp_path):
    """Recipe.yaml: half of the teacher's layers, on the texts that it was trained on."""
    for name, texts in (("members", people[:200]), ("nonmembers", people[300:510])):
        (tmp_path / f"{name}.txt").write_text("\n".join(texts), encoding="utf-8")
    content = {
        "output": "student",
        "teacher": {"model": str(leaking)},
        "student": {"every_nth_layer": 2},
        "data": {"members": "members.txt", "nonmembers": "nonmembers.txt", "max_length": 16},
        "train": {"epochs": 40, "batch_size": 20, "learning_rate": 0.003, "warmup_steps": 5},
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(content))


def preempted(folder):
    """The command, which gets SIGTERM once it is at its steps: exit status and what it said."""
    command = [*COMMANDS["midistill"], "distill", "recipe.yaml"]
    process = subprocess.Popen(
        command, cwd=folder, stderr=subprocess.PIPE, text=True, env={**os.environ, "HOME": str(folder)}
    )
    log, until = folder / "student" / "midistill.log", time.monotonic() + 200
    while not (log.is_file() and re.search(r"step \d+:", log.read_text())):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < until
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    return process.communicate(timeout=200)[1], process.returncode


def test_cost_first_then_a_preemption_then_a_student(recipe, shell, tmp_path):
    planned = shell("midistill", "distill", "recipe.yaml", "--dry-run").out
    assert "what would be trained; nothing is written" in planned
    assert re.search(r"time +about .*timed \d+ steps of 20 texts", planned)
    assert re.search(r"memory +[\d.]+ [MG]B", planned)
    assert re.search(r"disk +[\d.]+ [kMG]B for the student", planned)
    assert "texts are longer than data.max_length (16 tokens; longest" in planned
    assert not (tmp_path / "student").exists()

    said, status = preempted(tmp_path)
    assert status == 143
    stopped = re.search(r"stopped at step (\d+) of 400; to go on: midistill distill recipe.yaml --resume", said)
    assert stopped, said
    assert "Traceback" not in said
    assert (tmp_path / "student" / "checkpoints" / f"checkpoint-{stopped[1]}").is_dir()

    done = shell("midistill", "distill", "recipe.yaml", "--resume")
    assert "texts are longer than data.max_length" in done.err
    assert not list((tmp_path / "student").rglob("optimizer*"))
    assert not list((tmp_path / "student").rglob("checkpoint-*"))

    options = '{"mia": {"members": "members.txt", "nonmembers": "nonmembers.txt"}}'
    ran = shell(
        *("lm_eval", "--tasks", "mia_strongest_files,heldout_files", "--model", "hf", "--device", "cpu"),
        *("--model_args", "pretrained=student,dtype=float32", "--metadata", options, "--batch_size", "16"),
    )
    perplexity = float(re.search(r"\|word_perplexity *\|↓ *\| *([\d.]+)", ran.out)[1])
    printed = float(re.search(r"word_perplexity\s+([\d.e+]+)", done.out)[1])
    assert printed == pytest.approx(perplexity, rel=2e-3)  # both print four figures
    assert re.search(r"mia_strongest_files\|.*auroc", ran.out)
