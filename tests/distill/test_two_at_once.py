"""Two runs that want one folder."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from midistill_tasks.distill import fine_tune
from midistill_tasks.distill.data import Texts
from midistill_tasks.distill.run import run_recipe
from midistill_tasks.errors import InputError
from midistill_tasks.locks import held
from midistill_tasks.recipes.schema import Data, FineTune, Teacher


@pytest.fixture
def made(tmp_path, tiny, monkeypatch):
    """``made(texts)``: the teacher of these texts in the one folder ``t``; and how many were trained."""
    trained = []
    monkeypatch.setattr(fine_tune, "_train", lambda *how: trained.append(how) or {})
    config = {"model_type": "gpt2", "n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 64, "vocab_size": 300}
    how = FineTune(folder=str(tmp_path / "t"))
    teacher = Teacher(config=config, fine_tune=how)
    return lambda texts: fine_tune.fine_tuned_teacher(teacher, how, Data(split="bios"), Texts(texts, [])), trained


def test_two_students_that_share_a_teacher_train_it_once(made, tiny, tmp_path, monkeypatch):
    """The second comes while the first trains, waits and takes what the first has made."""
    make, trained = made
    texts, folders = tiny.texts(20), []
    original = fine_tune._train

    def train(*how):
        second.start()
        second.join(timeout=0.5)
        assert second.is_alive()
        return original(*how)

    second = threading.Thread(target=lambda: folders.append(make(texts)))
    monkeypatch.setattr(fine_tune, "_train", train)
    folders.append(make(texts))
    second.join()

    assert folders == [tmp_path / "t"] * 2
    assert len(trained) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["t"]


def test_a_teacher_that_the_other_made_otherwise_is_refused(made, tiny):
    make, _ = made
    make(tiny.texts(20))
    with pytest.raises(InputError, match=r"made otherwise \(members differ\)"):
        make(tiny.texts(20, seed=1))


@pytest.mark.parametrize("resume", [False, True])
def test_a_run_is_refused_while_another_is_at_work_in_its_folder(resume, recipe_of):
    recipe = recipe_of()
    with held(Path(recipe.output), "output"):
        with pytest.raises(InputError, match=r"another process \(host .*\) is at work on"):
            run_recipe(recipe, resume)
        assert not (Path(recipe.output) / "recipe.yaml").exists()
