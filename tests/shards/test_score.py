"""`midistill score`: shards by workers, resumed, refused, and joined to what a run without shards gives."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from midistill_tasks.cli.main import main
from midistill_tasks.errors import warn_once
from midistill_tasks.locks import held_beside

HERE = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _each_test_hears_its_warnings():
    warn_once.cache_clear()


@pytest.fixture
def command(score_command):
    return score_command(shards=4)


def shards(tmp_path):
    return {path.name: path.stat().st_mtime_ns for path in (tmp_path / "stats").rglob("*.parquet")}


def test_all_shards_are_made_once_and_a_missing_one_again(command, tmp_path, capsys, monkeypatch):
    command = [each for each in command if each not in ("--device", "cpu")]  # which a user leaves to the harness
    monkeypatch.setattr(sys, "argv", ["midistill", *command])
    assert main(command) == 0
    said = capsys.readouterr()
    assert f"All 4 shards are there: midistill attack {tmp_path}/stats" in said.out
    before = shards(tmp_path)
    assert sorted(before) == [f"files-shard-{number}-of-4.parquet" for number in (1, 2, 3, 4)]
    assert main(["attack", str(tmp_path / "stats")]) == 0
    table = capsys.readouterr().out

    (third,) = (tmp_path / "stats").rglob("*-3-of-4.parquet")
    third.unlink()
    assert main(["attack", str(tmp_path / "stats")]) == 2
    said = capsys.readouterr().err
    assert f"of 4 shards 1 are missing (3/4): this makes what is missing: {shlex.join(['midistill', *command])}" in said
    assert main(command) == 0
    after = shards(tmp_path)
    assert {name: time for name, time in after.items() if name != third.name} == {
        name: time for name, time in before.items() if name != third.name
    }
    capsys.readouterr()
    assert main(["attack", str(tmp_path / "stats")]) == 0
    assert capsys.readouterr().out == table


def test_what_others_are_at_is_left_to_them(score_command, tmp_path, capsys):
    command = score_command(shards=2, task="mia_loss_files")
    assert main(command) == 0
    (second,) = (tmp_path / "stats").rglob("*-2-of-2.parquet")
    second.unlink()
    with held_beside(second, "--output"):
        assert main(command) == 1
        assert "failed: shard 2/2, it is not there; the same command makes it" in capsys.readouterr().out
    assert main(command) == 0


@pytest.mark.slow
def test_a_shard_that_lacks_a_view_is_made_again(command, tmp_path):
    command[1] = "mia_loss_files"
    assert main(command) == 0
    (first,) = (tmp_path / "stats").rglob("*-1-of-4.parquet")
    only_text = first.read_bytes()
    command[1] = "files"
    for path in (tmp_path / "stats").rglob("*.parquet"):
        path.unlink()
    assert main(command) == 0
    first.write_bytes(only_text)
    assert main(command) == 0
    assert main(["attack", str(tmp_path / "stats"), "--attack", "recall"]) == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({1: "biosphere"}, "there is no task or split 'biosphere'"),
        ({1: "nowhere.yaml"}, "nowhere.yaml: there is no such file"),
        ({9: "{"}, "--metadata {: give JSON"),
        ({9: '{"mia": {"shard": "1/2"}}'}, "'shard' is what --shards says: leave it out"),
        ({11: "0"}, "--shards 0: give 1 or more"),
        ({11: "41"}, "41 shards of 40 documents"),
    ],
)
def test_what_cannot_be_done_is_said_before_a_model_is_loaded(command, change, said, capsys, monkeypatch):
    monkeypatch.setattr("midistill_tasks.shards.worker.Worker.lm", None)
    for place, value in change.items():
        command[place] = value
    assert main(command) == 2
    assert said in capsys.readouterr().err


def test_shards_of_another_run_are_not_gone_on_with(score_command, tmp_path, capsys):
    command = score_command(shards=1, task="mia_loss_files")
    assert main(command) == 0
    options = json.loads(command[9])
    command[9] = json.dumps({"mia": options["mia"] | {"shots": 1}})
    assert main(command) == 2
    assert "of another run (they are of different texts or labels): give another --output" in capsys.readouterr().err


def test_a_model_that_cannot_be_loaded_is_said_in_a_sentence(command, capsys):
    command[3] = "pretrained=/nonexistent/model"
    assert main(command) == 2
    assert "midistill score: --model hf with these --model_args cannot be loaded: " in capsys.readouterr().err


@pytest.mark.slow
def test_processes_take_what_is_left_and_a_killed_one_keeps_nobody_waiting(command, tmp_path):
    env = {**os.environ, "PYTHONPATH": str(HERE)}
    whole = subprocess.run(
        [sys.executable, "-m", "midistill_tasks.cli", *command, "--jobs", "2"],
        env=env, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert whole.returncode == 0, whole.stderr
    for number in (1, 2, 3, 4):
        assert f"shard {number}/4: done" in whole.stderr
    assert "left, about" in whole.stderr
    assert len(shards(tmp_path)) == 4
    assert (tmp_path / "stats" / "logs" / "worker-2" / "output.log").is_file()
