"""`midistill score`: shards by workers, resumed, refused, and joined to what a run without shards gives."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pyarrow import parquet

from midistill_tasks.cli.main import main
from midistill_tasks.errors import warn_once
from midistill_tasks.locks import held_beside
from midistill_tasks.shards.job import Job
from midistill_tasks.shards.worker import Progress
from midistill_tasks.splits.shards import Shard
from midistill_tasks.stats import file as stats
from midistill_tasks.stats.parts import parts_below

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


def views(tmp_path):
    return [part.views for part in parts_below(tmp_path / "stats")[0]]


@pytest.mark.slow
def test_views_that_none_of_the_shards_has_are_made(score_command, tmp_path, capsys):
    command = score_command(shards=2, task="mia_loss_files")
    assert main(command) == 0
    command[1] = "files"
    assert main(command) == 0
    assert views(tmp_path) == [{"text", "after_shots"}] * 2
    before = shards(tmp_path)
    command[1] = "mia_loss_files"  # they have more than that
    assert main(command) == 0
    assert shards(tmp_path) == before
    capsys.readouterr()

    next((tmp_path / "stats").rglob("*-1-of-2.parquet")).unlink()
    assert main(command) == 2
    assert "hold what these tasks do not ask for (after_shots): name those of before" in capsys.readouterr().err


@pytest.mark.slow
def test_a_shard_that_was_killed_between_its_tasks_is_made_to_its_end(score_command, tmp_path, monkeypatch):
    command, write = score_command(shards=1), stats.write
    (tmp_path / "both.yaml").write_text("group: both\ntask: [mia_loss_files, mia_recall_files]\n")
    command[1:] = ["both", *command[2:], "--include_path", str(tmp_path)]
    monkeypatch.setattr(stats, "write", killed_behind(write))
    assert main(command) != 0
    assert views(tmp_path) == [{"text"}]
    monkeypatch.setattr(stats, "write", write)
    assert main(command) == 0
    assert views(tmp_path) == [{"text", "after_shots"}]


def killed_behind(write):
    def killed(*args):
        write(*args)
        raise KeyboardInterrupt

    return killed


def test_a_shard_that_somebody_else_has_made_again_since_is_not_made_twice(tmp_path):
    path = tmp_path / "shard.parquet"
    path.write_text("lacks a view")
    progress = Progress({Shard(1, 1): path}, [Shard(1, 1)])
    assert not progress.made(Shard(1, 1))
    os.utime(path, ns=(1, 1))
    assert progress.made(Shard(1, 1))


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


GROUP = HERE / "task_yamls" / "leaderboard_privacy.yaml"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({1: "biosphere"}, "there is no task or split 'biosphere'"),
        ({1: "nowhere.yaml"}, "nowhere.yaml: there is no such file"),
        ({1: str(GROUP)}, f"is no task's file: give leaderboard_privacy --include_path {GROUP.parent}"),
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


@pytest.mark.parametrize("missing", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_shards_of_other_weights_in_the_same_folder_are_not_gone_on_with(
    score_command, tmp_path, tiny, capsys, missing
):
    command, model = score_command(shards=2, task="mia_loss_files"), tmp_path / "model"
    command[3] = f"pretrained={model},dtype=float32"
    shutil.copytree(tiny("gpt2"), model)
    assert main(command) == 0
    if missing:
        next((tmp_path / "stats").rglob("*-2-of-2.parquet")).unlink()
    before = shards(tmp_path)
    shutil.copytree(tiny("gpt2", seed=1), model, dirs_exist_ok=True)  # it is trained on
    capsys.readouterr()
    assert main(command) == 2
    said = capsys.readouterr()
    assert "-1-of-2.parquet is of another model of this name, such as other weights: give another --output" in said.err
    assert "are there" not in said.out
    assert shards(tmp_path) == before


def test_shards_by_other_model_args_are_not_gone_on_with(score_command, tmp_path, capsys, monkeypatch):
    command = score_command(shards=1, task="mia_loss_files")
    assert main(command) == 0
    before, args = shards(tmp_path), command[3]
    command[3] = f"{args},parallelize=False"  # which decides no figure
    assert main(command) == 0
    assert shards(tmp_path) == before
    monkeypatch.setattr("midistill_tasks.shards.worker.Worker.lm", None)
    for changed, said in (
        ({3: f"{args},max_length=16"}, "max_length of --model_args is None in one and 16 in the other"),
        ({3: args, 1: "mia_loss_files --model hf-mlm"}, "--model is hf in one and hf-mlm in the other"),
    ):
        again = list(command)
        for place, value in changed.items():
            again[place : place + 1] = value.split(" ")
        capsys.readouterr()
        assert main(again) == 2
        assert f"is shard 1/1 of another run ({said}): give another --output" in capsys.readouterr().err


@pytest.mark.slow
def test_shards_that_say_nothing_of_model_args_and_views_are_gone_on_with(score_command, tmp_path):
    command = score_command(shards=2, task="mia_loss_files")
    assert main(command) == 0
    for path in (tmp_path / "stats").rglob("*.parquet"):
        table = parquet.read_table(path)
        about = json.loads(table.schema.metadata[b"midistill"])
        assert about.pop("asked") == ["text"]
        assert about.pop("scored_by")["model"] == "hf"
        parquet.write_table(table.replace_schema_metadata({b"midistill": json.dumps(about)}), path)
    before = shards(tmp_path)
    assert main(command) == 0
    assert shards(tmp_path) == before
    assert main(["attack", str(tmp_path / "stats")]) == 0


def test_no_secret_of_the_model_args_is_written():
    args = {"base_url": "http://me:pass@host/v1", "token": "hf_" + "a" * 20, "dtype": "float32"}
    job = Job("files", "hf", args, "1", None, None, {}, 1, "stats")
    assert job.scored_by == {"model": "hf", "model_args": {"base_url": "http://***@host/v1", "dtype": "float32"}}


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
