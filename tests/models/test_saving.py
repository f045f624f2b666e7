"""A student is on the disk whole and as it was, or not at all, and nothing else in the folder is touched."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
import torch
from made_students import changes
from transformers import AutoModelForCausalLM, AutoTokenizer

from midistill_tasks.errors import InputError
from midistill_tasks.models import fresh, reload, saving
from midistill_tasks.models.architectures import convert
from midistill_tasks.models.reload import ReloadError, probe
from midistill_tasks.models.saving import save


@pytest.fixture(autouse=True)
def _from_its_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests' fresh processes are those of tests/warm.py; these start as they do for users."""
    monkeypatch.setattr(reload, "fresh", fresh)


@pytest.fixture
def student(stock: Any) -> Any:
    student = convert(stock.model("gpt_neox"), changes(nonorm=True, bottleneck=3, temperature=2.0))
    stock.shake(student)
    return student.train()


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Saves without the fresh process, where a test is about something else."""
    monkeypatch.setattr(saving, "check_reload", lambda model, tokenizer, folder: None)


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_saved_beside_other_files_it_gives_the_same_logits_and_tokens(student: Any, tiny: Any, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("mine")
    tokenizer = tiny.tokenizer()
    save(student, tokenizer, tmp_path)
    assert student.training  # it was only looked at in evaluation mode
    assert torch.equal(probe(AutoModelForCausalLM.from_pretrained(tmp_path)), probe(student))
    text = " ".join(tiny.words[:9])
    assert AutoTokenizer.from_pretrained(tmp_path)(text).input_ids == tokenizer(text).input_ids
    assert (tmp_path / "recipe.yaml").read_text() == "mine"
    assert not [path for path in tmp_path.iterdir() if path.name.startswith((".", "reloaded"))]


def test_a_model_that_comes_back_otherwise_fails_and_stays_out_of_the_folder(
    tiny: Any, stock: Any, tmp_path: Path
) -> None:
    model = stock.model("llama")
    model.model.norm = torch.nn.Identity()  # swapped in a stock class: loads without complaint, as something else
    with pytest.raises(ReloadError, match=r"another parameter: model\.norm\.weight was missing"):
        save(model, tiny.tokenizer(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [saving.UNFINISHED]


def test_a_model_that_a_fresh_process_cannot_load_fails_with_its_message(tiny: Any, stock: Any, tmp_path: Path) -> None:
    model = stock.model("llama")
    model.config.vocab_size = 63  # its embeddings have 64 rows
    with pytest.raises(ReloadError, match=r"cannot load the saved model: .*mismatch"):
        save(model, tiny.tokenizer(), tmp_path)
    (tmp_path / "tokenizer.json").write_text("mine")
    with pytest.raises(InputError, match=r"already holds tokenizer\.json"):  # what a failed save left excuses nothing
        save(model, tiny.tokenizer(), tmp_path)


def test_a_diverged_model_is_not_saved(student: Any, tiny: Any, tmp_path: Path) -> None:
    with torch.no_grad():
        student.get_input_embeddings().weight.fill_(float("nan"))
    with pytest.raises(ReloadError, match="NaN"):
        save(student, tiny.tokenizer(), tmp_path)


def test_after_a_change_of_directory_a_relative_folder_is_saved_and_named_as_it_was_given(
    tiny: Any, stock: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = stock.model("llama")
    for name in ("one", "two"):  # the server that reads them again stays in the first
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        save(model, tiny.tokenizer(), Path("student"))
        assert (tmp_path / name / "student" / "model.safetensors").is_file()
    model.config.vocab_size = 63  # its embeddings have 64 rows
    with pytest.raises(ReloadError, match=r"^other/\S*: a fresh process cannot load the saved model: .*mismatch"):
        save(model, tiny.tokenizer(), Path("other"))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_folder_that_holds_a_model_or_part_of_one_is_refused_unchanged(
    name: str, student: Any, tiny: Any, tmp_path: Path
) -> None:
    (tmp_path / name).write_text("{}")
    before = files(tmp_path)
    with pytest.raises(InputError, match=f"already holds .*{name}"):
        save(student, tiny.tokenizer(), tmp_path)
    assert files(tmp_path) == before


@pytest.mark.usefixtures("unchecked")
def test_a_file_in_the_folder_s_place_is_refused(student: Any, tiny: Any, tmp_path: Path) -> None:
    (tmp_path / "student").write_text("mine")
    with pytest.raises(InputError, match="is a file"):
        save(student, tiny.tokenizer(), tmp_path / "student")


@pytest.mark.usefixtures("unchecked")
def test_a_full_disk_leaves_the_folder_as_it_was(
    student: Any, tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "recipe.yaml").write_text("mine")
    before = files(tmp_path)
    tokenizer = tiny.tokenizer()

    def full(folder: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tokenizer, "save_pretrained", full)  # the model is written already
    with pytest.raises(InputError, match=r"No space left on device.*nothing else there has changed"):
        save(student, tokenizer, tmp_path)
    assert files(tmp_path) == before


@pytest.mark.usefixtures("unchecked")
def test_a_save_killed_while_it_moved_files_up_can_be_repeated(
    student: Any, tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = saving.os.replace
    moved: list[Path] = []

    def killed_at_the_third(source: Path, target: Path) -> None:
        if len(moved) == 2:
            raise KeyboardInterrupt
        moved.append(target)
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(saving.os, "replace", killed_at_the_third)
        with pytest.raises(KeyboardInterrupt):
            save(student, tiny.tokenizer(), tmp_path)
    assert not (tmp_path / "config.json").exists()  # so nothing loads the half of it
    save(student, tiny.tokenizer(), tmp_path)
    assert torch.equal(probe(AutoModelForCausalLM.from_pretrained(tmp_path)), probe(student))


def test_the_fresh_process_is_no_rank_of_a_launcher_s(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "ACCELERATE_USE_FSDP"):
        monkeypatch.setenv(key, "1")
    monkeypatch.setenv("HF_HOME", "kept")
    environment = fresh._environment()
    assert environment["HF_HOME"] == "kept"
    assert not {"RANK", "WORLD_SIZE", "MASTER_ADDR", "ACCELERATE_USE_FSDP"} & environment.keys()
