"""A disk that gets full, and places that cannot be written: one sentence, and nothing is lost."""

from __future__ import annotations

import errno
import resource
from contextlib import contextmanager
from pathlib import Path

import pytest
from safetensors.torch import load_file

from midistill_tasks.distill.run import run_recipe
from midistill_tasks.errors import InputError
from midistill_tasks.models import saving


@contextmanager
def files_up_to(size):
    """No file of this process gets larger: the system's own error, as of a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture(autouse=True)
def _no_reload_check(monkeypatch):
    monkeypatch.setattr(saving, "check_reload", lambda model, tokenizer, folder: None)


def test_a_disk_that_gets_full_at_any_file_of_a_checkpoint_loses_no_step_before(recipe_of, tmp_path):
    """From the smallest file to the largest; resumed each time, the weights come out as of a run without trouble."""
    recipe = recipe_of(train__save_every=2, train__keep_checkpoints=True)
    untouched = run_recipe(recipe.model_copy(update={"output": str(tmp_path / "untouched")}))
    files = [path for path in (tmp_path / "untouched" / "checkpoints").rglob("*") if path.is_file()]
    sizes = sorted({path.stat().st_size for path in files} - set(range(2000)))  # smaller than the recipe
    assert len(sizes) > 4
    for size in sizes:
        with files_up_to(size - 1), pytest.raises(InputError, match=r"cannot be written .*: free some space"):
            run_recipe(recipe, resume=Path(recipe.output, "recipe.yaml").exists())
    record = run_recipe(recipe, resume=True)

    ours, theirs = (load_file(f"{folder}/model.safetensors") for folder in (recipe.output, tmp_path / "untouched"))
    assert all((ours[name] == theirs[name]).all() for name in theirs)
    assert record.measured == untouched.measured


def test_a_place_that_cannot_be_written_is_refused_before_anything_is_loaded(recipe_of, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr("midistill_tasks.distill.run.gather", lambda *_: pytest.fail("loaded"))
    with pytest.raises(InputError, match=r"output: .*file/run cannot be written \(.*\): give a folder"):
        run_recipe(recipe_of(output=str(tmp_path / "file" / "run")))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_teacher_that_cannot_be_saved_leaves_nothing_half(number, recipe_of, tiny, tmp_path, monkeypatch):
    config = {"model_type": "gpt2", "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64, "vocab_size": 300}
    teacher = {"config": config, "fine_tune": {"folder": str(tmp_path / "t"), "epochs": 1}}

    def full(tokenizer, folder, **how):
        Path(folder, "tokenizer.json").touch()
        raise OSError(number, "it cannot be")

    monkeypatch.setattr("transformers.PreTrainedTokenizerBase.save_pretrained", full)
    with pytest.raises(InputError, match=r"teacher\.fine_tune\.folder: .*t cannot be written \(it cannot be\): "):
        run_recipe(recipe_of(teacher=teacher))
    assert not list(tmp_path.glob("t*"))
