"""What a recipe would train and cost is said from steps of its own, and nothing is written."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from midistill_tasks.cli.main import main
from midistill_tasks.distill.costs import timing
from midistill_tasks.distill.costs.forecast import forecast
from midistill_tasks.distill.run import run_recipe
from midistill_tasks.errors import InputError
from midistill_tasks.models import saving
from midistill_tasks.recipes.file import dump_recipe


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(saving, "check_reload", lambda *_: None)
    monkeypatch.setattr(timing, "MOST", 3)


LORA = {"student": {"every_nth_layer": 2, "reinitialise": False, "lora": {"rank": 2}}}
CASES = {
    "plain": {},
    "accumulated": {"train__accumulate": 2},
    "lora": LORA,
    "fewer texts": {"interventions": {"random_keep": 0.25}},
    "changed": {"interventions": {"nonorm": True, "bottleneck": 4}},
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_forecast_is_what_comes(case, recipe_of, tmp_path):
    recipe = recipe_of(train__keep_checkpoints=True, **CASES[case])
    before = sorted(tmp_path.rglob("*"))
    found = forecast(recipe)
    assert sorted(tmp_path.rglob("*")) == before
    record = run_recipe(recipe)
    assert (found.texts, found.tokens) == (record.counts["trained_on"], record.counts["tokens"])
    assert found.student.steps == record.steps
    assert (found.student.parameters, found.student.trained) == (record.parameters, record.trained_parameters)
    assert found.teacher > found.student.parameters
    checkpoint = Path(recipe.output) / "checkpoints" / f"checkpoint-{record.steps}"
    names = ("model.safetensors", "adapter_model.safetensors", "optimizer.pt")
    bytes_there = sum(path.stat().st_size for path in checkpoint.iterdir() if path.name in names)
    assert found.student.checkpoint == pytest.approx(bytes_there, abs=20_000)  # headers
    assert found.memory > 50e6


def test_the_time_follows_the_steps_that_were_timed(recipe_of):
    once, often = forecast(recipe_of()).student, forecast(recipe_of(train__epochs=200)).student
    assert len(once.pace.seconds) == 3
    steps = sum(often.pace.seconds) / 3
    assert often.seconds["training"] == pytest.approx(200 * 3 * steps, rel=0.5)  # 3 batches an epoch, of other lengths
    assert often.seconds["training"] > 10 * once.seconds["training"]


def test_steps_that_take_long_are_few(recipe_of, monkeypatch):
    monkeypatch.setattr(timing, "PATIENCE", 0.0)
    assert len(forecast(recipe_of()).student.pace.seconds) == 1


def test_a_teacher_that_is_to_be_trained_and_a_cache_are_counted(recipe_of, tmp_path):
    config = {"model_type": "gpt2", "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64, "vocab_size": 300}
    tune = {"folder": str(tmp_path / "made"), "epochs": 3}
    cache = {"folder": str(tmp_path / "cache"), "k": 8}
    found = forecast(recipe_of(teacher={"config": config, "fine_tune": tune, "cache": cache}))
    assert found.seconds.keys() == {"fine-tuning", "the teacher's cache", "training", "measuring"}
    assert found.tuning.steps == 9
    assert found.cache == found.tokens * (8 * 3 + 12)
    assert not (tmp_path / "made").exists()
    assert not (tmp_path / "cache").exists()


def test_a_teacher_that_learnt_all_members_is_found_again_for_a_student_of_some(recipe_of, tmp_path):
    tuned = {"teacher__fine_tune": {"folder": str(tmp_path / "tuned"), "epochs": 1}, "data__n": 6}
    run_recipe(recipe_of(output=str(tmp_path / "first"), **tuned))
    again = recipe_of(output=str(tmp_path / "again"), **tuned, seed=1)
    found = forecast(again)
    assert found.tuning is None
    assert found.student.steps == run_recipe(again).steps == 2


def test_students_of_a_cache_alone_are_forecast_too(recipe_of, tmp_path):
    cache = {"folder": str(tmp_path / "cache"), "k": 62}
    run_recipe(recipe_of(output=str(tmp_path / "first"), teacher__cache=cache))
    student = {"checkpoint": str(tmp_path / "first")}
    alone = recipe_of(output=str(tmp_path / "alone"), teacher={"cache": cache}, student=student)
    found = forecast(alone)
    assert found.teacher is None
    assert "training" in found.seconds


def test_the_command_says_it_all_and_refuses_what_the_run_refuses(recipe_of, tmp_path, capsys):
    recipe = recipe_of(data__max_length=8)
    path = tmp_path / "written.yaml"
    path.write_text(dump_recipe(recipe))
    assert main(["distill", str(path), "--dry-run"]) == 0
    said = capsys.readouterr().out
    for row in ("texts", "steps", "parameters", "time", "memory", "disk"):
        assert re.search(rf"^  {row} ", said, re.MULTILINE)
    assert re.search(r"timed 3 steps of 8 texts \(8 tokens long\): .* s each", said)
    assert re.search(r"\d+ of 24 texts are longer than data\.max_length \(8 tokens; longest 1\d\)", said)
    assert not Path(recipe.output).exists()
    (tmp_path / "student").mkdir()
    (tmp_path / "student" / "other.txt").write_text(json.dumps("mine"))
    with pytest.raises(InputError, match="holds no run of midistill"):
        forecast(recipe)
