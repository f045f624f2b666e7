"""Students of one teacher read it once, and learn from it what each would have learnt from it alone."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from transformers import GPTNeoXForCausalLM

from midistill_tasks.distill import reading, run
from midistill_tasks.distill.data import load_texts
from midistill_tasks.distill.reading import Readings, states_key
from midistill_tasks.distill.run import run_recipe
from midistill_tasks.errors import InputError


@pytest.fixture
def curve(recipe_of, tmp_path, monkeypatch):
    """Losses of each step of a student trained with these readings."""
    monkeypatch.setattr(run, "_save", lambda *args: None)

    def curve(name, readings, texts=None, **changes):
        recipe = recipe_of(output=str(tmp_path / name), **changes)
        record = run_recipe(recipe, False, texts or load_texts(recipe.data), None, readings)
        return [line["loss"] for line in record.log if "loss" in line]

    return curve


@pytest.fixture
def counted(monkeypatch):
    """How often a teacher was loaded, and how often a model of its class read a batch in evaluation mode."""
    count = SimpleNamespace(loaded=0, read=0)
    load, forward = reading.load_teacher, GPTNeoXForCausalLM.forward

    def loading(*args, **kwargs):
        count.loaded += 1
        return load(*args, **kwargs)

    def counting(model, *args, **kwargs):
        count.read += not model.training and len(model.gpt_neox.layers) == 2
        return forward(model, *args, **kwargs)

    monkeypatch.setattr(reading, "load_teacher", loading)
    monkeypatch.setattr(GPTNeoXForCausalLM, "forward", counting)
    return count


def test_two_students_share_the_teacher_and_learn_what_they_would_alone(curve, counted, recipe_of, tmp_path):
    alone = [curve(f"alone-{seed}", None, seed=seed) for seed in (0, 1)]
    texts, readings = load_texts(recipe_of().data), Readings(tmp_path / "states")
    loaded, read = counted.loaded, counted.read
    first = curve("first", readings, texts, seed=0)
    read_by_first = counted.read
    second = curve("second", readings, texts, seed=1, loss__temperature=3.0)
    assert (loaded, counted.loaded) == (2, 3)
    assert read_by_first - read > 0
    assert counted.read - read_by_first <= 1, "no more than the probe whether its head comes last"
    assert first == pytest.approx(alone[0], rel=1e-5)
    assert curve("third", readings, texts, seed=1) == pytest.approx(alone[1], rel=1e-5)
    assert second != pytest.approx(alone[1], rel=1e-5), "its temperature is another one"
    readings.clear()
    assert not (tmp_path / "states").exists()


def test_other_texts_or_another_teacher_are_read_anew(curve, counted, recipe_of):
    texts, readings = load_texts(recipe_of().data), Readings()
    curve("first", readings, texts)
    curve("second", readings, texts, data__max_length=8)
    curve("third", readings, load_texts(recipe_of().data), data__max_length=8)
    assert counted.loaded == 3


def test_where_the_states_cannot_be_written_the_teacher_is_run(curve, tmp_path, monkeypatch, caplog):
    def full(*args):
        raise InputError("the disk is full")

    alone = curve("alone", None)
    monkeypatch.setattr(reading, "write_cache", full)
    assert curve("full", Readings(tmp_path / "states")) == alone
    assert "the teacher is run for each student: the disk is full" in caplog.text


def test_states_stand_in_only_where_they_are_all_that_is_asked_of_the_teacher(recipe_of, tiny, monkeypatch):
    hashes, rows = {"teacher": "t", "tokenizer": "k", "texts": "x"}, [[1, 2, 3]]

    def key(teacher, **changes):
        return states_key(recipe_of(**changes), teacher, hashes, 62, rows)

    teacher = tiny.model().eval()
    assert key(teacher).width == 16
    assert key(teacher).layout.bytes_a_token == 64
    assert key(teacher.bfloat16()).layout.bytes_a_token == 32
    assert key(None) is None
    assert key(teacher, loss__alpha=0) is None
    assert key(teacher, loss__compat="paper") is None
    assert key(teacher, loss__on_policy=0.5) is None
    assert key(teacher, teacher__cache={"folder": "c"}) is None
    capped = tiny.model("gemma2", num_key_value_heads=2, head_dim=8, final_logit_softcapping=5.0)
    assert key(capped.eval()) is None
    monkeypatch.setattr(reading, "MOST_STATES", 2 * 64 - 1)
    assert key(tiny.model().eval()) is None
