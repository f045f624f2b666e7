"""DP trainings from recipe to record: teacher and student, resuming, several parts a step, a forecast."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import TrainerCallback

from midistill_tasks.distill import run as run_module
from midistill_tasks.distill.costs.forecast import forecast, said
from midistill_tasks.distill.data import Texts
from midistill_tasks.distill.dp import trainer as trainer_module
from midistill_tasks.distill.dp.accounting import Mechanism
from midistill_tasks.distill.dp.guarantee import MADE
from midistill_tasks.distill.dp.trainer import Poisson
from midistill_tasks.distill.fine_tune import fine_tuned_teacher, is_made
from midistill_tasks.distill.loader import TextDataset
from midistill_tasks.distill.run import run_recipe
from midistill_tasks.distill.trainer import DistillationTrainer
from midistill_tasks.errors import InputError

PROMISE = {"epsilon": 2.0, "delta": 1e-3}


@pytest.mark.slow
def test_teacher_and_student_say_what_they_spent(recipe_of, tmp_path):
    tuned = {"folder": str(tmp_path / "tuned"), "epochs": 2, "batch_size": 8}
    recipe = recipe_of(
        teacher__fine_tune=tuned, teacher__dp=PROMISE, train__dp=PROMISE, train__accumulate=2, train__batch_size=4
    )
    record = run_recipe(recipe)
    stored = json.loads((Path(recipe.output) / "midistill.json").read_text())["dp"]
    assert stored == json.loads(json.dumps(record.dp))
    assert "is (4, 0.002)-DP for each of the 24 texts that it was trained on" in stored["guarantee"]
    student, teacher = stored["student"], stored["before"][tuned["folder"]]
    made = json.loads((tmp_path / "tuned" / MADE).read_text())
    assert made["spent"] == teacher
    assert made["dp"] == {**PROMISE, "max_grad_norm": 1.0}
    for spent in (student, teacher):
        assert (spent["steps"], spent["sample_rate"]) == (6, 1 / 3)
        assert 1.9 < spent["epsilon"] <= 2.0
        assert spent["delta"] == 1e-3
        assert spent["unit"] == "one text, added or removed"
    assert record.log[0]["dp_noise_multiplier"] == student["noise_multiplier"]
    assert [line["dp_epsilon"] for line in record.log if "dp_epsilon" in line] == [student["epsilon"]]
    card = (Path(recipe.output) / "README.md").read_text()
    assert stored["guarantee"] in card
    assert f"epsilon {student['epsilon']:.3f} at delta 0.001 was spent" in card


def test_a_teacher_with_dp_is_not_one_without(recipe_of, tmp_path):
    recipe = recipe_of(teacher__fine_tune={"folder": str(tmp_path / "tuned"), "epochs": 1}, teacher__dp=PROMISE)
    texts = Texts(["w1 w2 w3", "w4 w5"], [])
    fine_tuned_teacher(recipe.teacher, recipe.teacher.fine_tune, recipe.data, texts)
    assert is_made(recipe.teacher, recipe.teacher.fine_tune, recipe.data, texts)
    plain = recipe.teacher.model_copy(update={"dp": None})
    with pytest.raises(InputError, match=r"holds a teacher made otherwise \(dp differ\)"):
        is_made(plain, recipe.teacher.fine_tune, recipe.data, texts)
    made = json.loads((tmp_path / "tuned" / MADE).read_text())
    older = {key: value for key, value in made.items() if key not in ("dp", "spent")}  # before there was dp
    (tmp_path / "tuned" / MADE).write_text(json.dumps(older))
    assert is_made(plain, recipe.teacher.fine_tune, recipe.data, texts)


@pytest.mark.slow
def test_what_is_resumed_counts_all_steps(recipe_of, monkeypatch):
    class Dies(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 5:
                raise KeyboardInterrupt

    def dying(self, *args, **kwargs):
        made(self, *args, **kwargs)
        self.add_callback(Dies())

    recipe, made = recipe_of(train__dp=PROMISE), DistillationTrainer.__init__
    monkeypatch.setattr(DistillationTrainer, "__init__", dying)
    with pytest.raises(KeyboardInterrupt):
        run_recipe(recipe)
    monkeypatch.undo()
    record = run_recipe(recipe, resume=True)
    assert record.dp["student"]["steps"] == record.steps == 6
    assert [line["step"] for line in record.log if "ce" in line] == [1, 2, 3, 4, 5, 6]
    assert sum("dp_sample_rate" in line for line in record.log) == 1


@pytest.mark.slow
def test_other_texts_cannot_be_gone_on_with(recipe_of, tmp_path, monkeypatch):
    recipe = recipe_of(train__dp=PROMISE)
    monkeypatch.setattr(run_module, "make_record", lambda *_: pytest.fail("stopped before this"))
    with pytest.raises(BaseException, match="stopped before this"):
        run_recipe(recipe)
    lines = (tmp_path / "members.jsonl").read_text().splitlines()
    (tmp_path / "members.jsonl").write_text("\n".join(lines[:-1]) + "\n")
    with pytest.raises(InputError, match=r"was made otherwise \(texts, texts that are trained on differ\)"):
        run_recipe(recipe, resume=True)
    monkeypatch.setattr(run_module, "check_inputs", lambda *_: None)  # a checkpoint of 0.2.0 does not say
    with pytest.raises(InputError, match=r"train\.dp: the steps that were made had another noise"):
        run_recipe(recipe, resume=True)


@pytest.fixture
def no_noise(monkeypatch):
    """In place of what a promise needs, which takes seconds to find."""
    monkeypatch.setattr(Mechanism, "spent", lambda *_: {"epsilon": float("inf"), "delta": 0.0})
    monkeypatch.setattr(trainer_module, "mechanism", lambda dp, n, b, epochs: Mechanism(0.0, b / n, round(epochs), b))


@pytest.fixture
def trained(tiny, recipe_of, tmp_path, no_noise):
    """``trained(name, steps, **changes)``: a trainer that has trained on 21 texts, by these steps or by coins."""
    rows = tiny.tokenizer()(tiny.texts(21))["input_ids"]

    def trained(name, steps=None, **changes):
        recipe = recipe_of(**{"output": str(tmp_path / name), "train__dp": PROMISE} | changes)
        student, teacher = tiny.model("llama", layers=1), tiny.model("llama", seed=3).eval()
        trainer = DistillationTrainer(student, teacher, recipe, TextDataset(rows), 62)
        trainer.batches = steps or trainer.batches
        trainer.train()
        return trainer

    return trained


def test_how_many_are_read_at_once_changes_nothing(trained):
    steps = [[4, 7, 1, 20], [], [5], list(range(21)), [3]]
    curves, weights = [], []
    for size, accumulate in ((6, 1), (2, 3), (1, 6)):
        trainer = trained(f"by{size}", steps, train__batch_size=size, train__accumulate=accumulate, train__epochs=1)
        assert trainer.state.global_step == 5
        lines = [line for line in trainer.state.log_history if "loss" in line]
        curves.append([line[name] for line in lines for name in ("loss", "ce", "divergence")])
        weights.append(torch.cat([p.detach().flatten() for p in trainer.model.parameters()]))
    assert curves[0] == pytest.approx(curves[1], rel=1e-4)
    assert curves[0] == pytest.approx(curves[2], rel=1e-4)
    assert curves[0][3:6] == [0, 0, 0]  # of the step without texts
    assert min(curves[0][:3] + curves[0][6:]) > 0
    torch.testing.assert_close(weights[0], weights[1], atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(weights[0], weights[2], atol=1e-4, rtol=1e-3)


def test_it_learns(trained):
    trainer = trained("learns", train__epochs=12, train__batch_size=4, train__learning_rate=1e-2)
    losses = [line["ce"] for line in trainer.state.log_history if "ce" in line]
    assert sum(losses[-6:]) < 0.8 * sum(losses[:6])


def test_steps_take_each_text_by_a_coin_of_its_own():
    steps = [texts for _ in range(100) for texts in Poisson(texts=20, rate=0.25, batch=5)]
    assert len(steps) == 400
    sizes = torch.tensor([len(texts) for texts in steps], dtype=torch.float)
    assert sizes.mean() == pytest.approx(5, abs=0.5)
    assert sizes.var() == pytest.approx(20 * 0.25 * 0.75, rel=0.35)  # of fixed batches it would be 0
    assert all(len(set(texts)) == len(texts) for texts in steps)
    assert list(Poisson(20, 0.25, 5)) != list(Poisson(20, 0.25, 5))


def test_a_forecast_times_such_steps(recipe_of, tmp_path, no_noise):
    tuned = {"folder": str(tmp_path / "tuned"), "epochs": 1}
    found = forecast(recipe_of(teacher__fine_tune=tuned, teacher__dp=PROMISE, train__dp=PROMISE, train__accumulate=2))
    assert found.student.steps == 4
    assert found.tuning.steps == 3
    assert "of 16 texts (" in said(found, recipe_of(train__accumulate=2))
