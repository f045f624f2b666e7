from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import warm
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from midistill_tasks.distill import run as run_module
from midistill_tasks.distill.data import Texts
from midistill_tasks.distill.dp.guarantee import MADE
from midistill_tasks.distill.fine_tune import fine_tuned_teacher, is_made
from midistill_tasks.distill.run import run_recipe
from midistill_tasks.errors import InputError
from midistill_tasks.models import saving
from midistill_tasks.recipes.file import dump_recipe

DISTIL = """
import sys
from midistill_tasks.recipes.file import load_recipe
from midistill_tasks.distill.run import run_recipe
run_recipe(load_recipe(sys.argv[1]), resume="--resume" in sys.argv)
"""


@pytest.fixture
def script(tmp_path: Path):
    """Writes the recipe and answers the command that runs it in another process."""

    def script(recipe: Any, *launcher: str) -> list[str]:
        (tmp_path / "distil.py").write_text(DISTIL)
        path = tmp_path / f"{Path(recipe.output).name}.yaml"
        path.write_text(dump_recipe(recipe))
        return [sys.executable, *launcher, str(tmp_path / "distil.py"), str(path)]

    return script


@pytest.fixture
def no_reload_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spares a test the fresh process that `save` compares with; its own tests are in test_saving.py."""
    monkeypatch.setattr(saving, "check_reload", lambda model, tokenizer, folder: None)


def losses(output: str) -> list[float]:
    log = json.loads((Path(output) / "midistill.json").read_text())["log"]
    return [line["loss"] for line in log if "loss" in line]


def test_a_run_leaves_a_student_its_recipe_its_record_and_a_card(recipe_of):
    recipe = recipe_of()
    record = run_recipe(recipe)
    folder = Path(recipe.output)
    student = AutoModelForCausalLM.from_pretrained(folder)
    assert student.config.num_hidden_layers == 1
    assert AutoTokenizer.from_pretrained(folder)("w1 w2")["input_ids"] == [3, 4]
    stored = json.loads((folder / "midistill.json").read_text())
    assert stored["seeds"] == {"run": 0, "data": 0}
    assert all(stored["hashes"][name] for name in ("texts", "tokenizer", "teacher"))
    assert {"python", "torch", "transformers"} <= stored["versions"].keys()
    card = (folder / "README.md").read_text()
    for name in ("loss_auroc", "heldout_byte_perplexity", "heldout_word_perplexity"):
        for role in ("student", "teacher"):
            assert f"{record.measured[f'{role}_{name}']:.4g}" in card
    assert "perplexities on all non-members, the loss attack on a fixed sample of up to 8 members and as many" in card
    assert dump_recipe(recipe) in card
    with pytest.raises(InputError, match="finished"):
        run_recipe(recipe)


@pytest.mark.parametrize("keep", [False, True])
def test_checkpoints_of_a_finished_run_go_unless_they_are_to_stay(recipe_of, keep, no_reload_check):
    recipe = recipe_of(train__keep_checkpoints=keep)
    checkpoints = Path(recipe.output) / "checkpoints"
    (checkpoints / "runs").mkdir(parents=True)  # a logger's
    (Path(recipe.output) / "recipe.yaml").write_text(dump_recipe(recipe))
    run_recipe(recipe, resume=True)
    left = sorted(path.name for path in checkpoints.iterdir())
    assert left == (["checkpoint-4", "checkpoint-6", "runs"] if keep else ["runs"])
    with pytest.raises(InputError, match="already holds this run, finished: give another output"):
        run_recipe(recipe, resume=True)


def test_the_figures_of_the_sample_are_in_the_trainers_log_next_to_the_teachers(recipe_of, no_reload_check):
    record = run_recipe(recipe_of(train__audit_every=2))
    lines = [line for line in record.log if "student_loss_auroc" in line]
    assert [line["step"] for line in lines] == [0, 2, 4, 6]
    assert [line["step"] for line in record.log if "loss" in line] == [1, 2, 3, 4, 5, 6]
    assert all("teacher_heldout_word_perplexity" in line and "student_loss_member_acc" in line for line in lines)


def test_the_student_learns_from_the_teacher(recipe_of, no_reload_check):
    record = run_recipe(recipe_of(train__epochs=30, train__learning_rate=1e-2, loss__alpha=1.0))
    divergences = [line["divergence"] for line in record.log if "divergence" in line]
    assert divergences[-1] < 0.5 * divergences[0]


@pytest.mark.parametrize(
    "interventions", [{"nonorm": True, "bottleneck": 4, "red_list": ["w3"], "temperature": 2.0}, {"same_params": 4}]
)
def test_interventions_survive_saving(recipe_of, interventions):
    recipe = recipe_of(interventions=interventions, train__epochs=1)
    run_recipe(recipe)
    config = json.loads((Path(recipe.output) / "config.json").read_text())
    assert config["model_type"] == ("gpt_neox" if "same_params" in interventions else "midistill")


def test_what_is_distilled_on_is_counted(recipe_of, tmp_path, tiny, no_reload_check):
    recipe_of()  # writes the members
    shared = (tmp_path / "members.jsonl").read_text().splitlines()[0]
    others = [json.dumps({"text": text}) for text in [*tiny.texts(8, seed=9), " "]]
    (tmp_path / "others.jsonl").write_text("\n".join([shared, *others]))
    recipe = recipe_of(data__distil_on=str(tmp_path / "others.jsonl"))
    counts = run_recipe(recipe).counts
    assert (counts["trained_on"], counts["distil_on_shared"], counts["distil_on_empty"]) == (8, 1, 1)


@pytest.mark.parametrize("made_of", ["its teacher", "a config of its own", "a teacher to be trained"])
def test_more_tokens_than_positions_is_one_sentence_before_anything_is_trained(
    recipe_of, tmp_path, made_of, monkeypatch
):
    (tmp_path / "long.jsonl").write_text(json.dumps({"text": " ".join(["w1"] * 300)}) + "\n")
    changes = {"data": {"members": str(tmp_path / "long.jsonl"), "max_length": 256}}
    role = "teacher"
    if made_of == "a config of its own":
        role, sizes = "student", {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
        changes |= {"student": {"config": {"model_type": "gpt2", "n_positions": 32, **sizes}}}
        changes["data"]["max_length"] = 64
    if made_of == "a teacher to be trained":
        changes |= {"teacher": {"model": recipe_of().teacher.model, "fine_tune": {"folder": str(tmp_path / "tuned")}}}
    monkeypatch.setattr("transformers.Trainer.train", lambda *_, **__: pytest.fail("it was trained"))
    with pytest.raises(
        InputError, match=rf"^data\.max_length: \d+ tokens are kept of a text, but the {role} .* or less$"
    ):
        run_recipe(recipe_of(**changes))
    assert not (tmp_path / "student" / "checkpoints").exists()


def test_lora_comes_back_merged(recipe_of, no_reload_check):
    student = {"every_nth_layer": 2, "reinitialise": False, "lora": {"rank": 2}}
    recipe = recipe_of(student=student, train__learning_rate=1e-2)
    run_recipe(recipe)
    saved = load_file(Path(recipe.output) / "model.safetensors")
    teacher = load_file(Path(recipe.teacher.model) / "model.safetensors")
    assert saved.keys() < teacher.keys()
    changed = {name for name, tensor in saved.items() if not torch.equal(tensor, teacher[name])}
    assert changed
    assert all("dense" in name or "query_key_value" in name for name in changed)


def test_students_share_a_cache_and_need_no_teacher_then(recipe_of, tmp_path, teacher_folder, no_reload_check):
    cache = {"folder": str(tmp_path / "cache"), "k": 62}
    online = run_recipe(recipe_of(output=str(tmp_path / "online")))
    cached = run_recipe(recipe_of(output=str(tmp_path / "cached"), teacher__cache=cache))
    student = {"checkpoint": str(tmp_path / "online")}
    offline = recipe_of(output=str(tmp_path / "offline"), teacher={"cache": cache}, student=student)
    alone = run_recipe(offline)
    curves = [[line["loss"] for line in record.log if "loss" in line] for record in (online, cached, alone)]
    assert curves[0] == pytest.approx(curves[1], abs=1e-3)
    assert curves[0] == pytest.approx(curves[2], abs=1e-3)
    assert alone.hashes == online.hashes
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_a_teacher_is_trained_once_for_all_students(recipe_of, tmp_path, no_reload_check):
    config = {"model_type": "gpt_neox", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    config |= {"num_attention_heads": 2, "vocab_size": 300, "max_position_embeddings": 64}
    teacher = {"config": config, "fine_tune": {"folder": str(tmp_path / "made"), "epochs": 1}}
    run_recipe(recipe_of(output=str(tmp_path / "one"), teacher=teacher, train__epochs=1))
    made = (tmp_path / "made" / "model.safetensors").stat().st_mtime_ns
    run_recipe(recipe_of(output=str(tmp_path / "two"), teacher=teacher, train__epochs=1, seed=1))
    assert (tmp_path / "made" / "model.safetensors").stat().st_mtime_ns == made
    teacher["fine_tune"] = {**teacher["fine_tune"], "epochs": 2}
    with pytest.raises(InputError, match=r"made otherwise \(fine_tune differ\)"):
        run_recipe(recipe_of(output=str(tmp_path / "three"), teacher=teacher))
    assert not (tmp_path / "three").exists()


def test_a_teacher_whose_tokenizer_knows_other_non_members_is_not_taken(recipe_of, tmp_path):
    """It would split their words into more pieces than the members', and so tell them apart."""
    config = {"model_type": "gpt_neox", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    config |= {"num_attention_heads": 2, "vocab_size": 300, "max_position_embeddings": 64}
    recipe = recipe_of(teacher={"config": config, "fine_tune": {"folder": str(tmp_path / "made"), "epochs": 1}})
    seen, other = Texts(["w1 w2", "w3 w4"], ["w5 w6"]), Texts(["w1 w2", "w3 w4"], ["v7 v8"])
    ours = recipe.teacher, recipe.teacher.fine_tune, recipe.data
    fine_tuned_teacher(*ours, seen)
    assert is_made(*ours, seen)
    with pytest.raises(InputError, match=r"made otherwise \(nonmembers differ\)"):
        is_made(*ours, other)
    made = json.loads((tmp_path / "made" / MADE).read_text())
    (tmp_path / "made" / MADE).write_text(json.dumps({key: made[key] for key in made if key != "nonmembers"}))
    assert is_made(*ours, other)  # of a version that did not keep it


def test_bad_input_leaves_no_output_folder(recipe_of, tmp_path, tiny):
    for change, said in (
        ({"teacher__model": str(tmp_path / "none")}, r"teacher\.model"),
        ({"student": {"config": {"model_type": "gpt_neox", "vocab_size": 8}}}, "8 rows, but the tokenizer 62"),
        ({"interventions": {"selection": str(tmp_path), "non_vulnerable": True}}, "not a folder that"),
        ({"data__members": str(tmp_path / "none.jsonl")}, "there is no file"),
        ({"data__split": "bois", "data__members": None, "data__nonmembers": None}, "did you mean 'bios'"),
    ):
        with pytest.raises(InputError, match=said):
            run_recipe(recipe_of(**change))
    assert not (tmp_path / "student").exists()


def test_a_student_with_another_tokenizer_is_refused(recipe_of, tmp_path, tiny):
    tiny.model(layers=1).save_pretrained(tmp_path / "other")
    tiny.tokenizer(list(reversed(tiny.words))).save_pretrained(tmp_path / "other")
    with pytest.raises(InputError, match=r"the tokenizers of teacher .* and student .* differ"):
        run_recipe(recipe_of(student={"checkpoint": str(tmp_path / "other")}))


@pytest.mark.slow
def test_resuming_after_kill_9_gives_the_weights_of_an_uninterrupted_run_bit_for_bit(recipe_of, script, tmp_path):
    changes = {"train__epochs": 40, "train__save_every": 5, "student": {"config": _with_dropout()}}
    whole = recipe_of(output=str(tmp_path / "whole"), **changes)
    killed = recipe_of(output=str(tmp_path / "killed"), **changes)
    process = warm.start(script(killed), said=str(tmp_path / "said"))
    while not (Path(killed.output) / "checkpoints" / "checkpoint-20").exists():
        assert process.is_alive(), (tmp_path / "said").read_text()
        time.sleep(0.005)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not (Path(killed.output) / "midistill.json").exists()
    resumed = warm.run([*script(killed), "--resume"])
    assert resumed.returncode == 0, resumed.stderr
    run_recipe(whole)
    one, other = (load_file(Path(recipe.output) / "model.safetensors") for recipe in (whole, killed))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def _with_dropout() -> dict[str, Any]:
    """Dropout draws random numbers, which resuming must restore too."""
    return {"model_type": "gpt2", "n_embd": 16, "n_layer": 1, "n_head": 2, "resid_pdrop": 0.1, "n_positions": 32}


@pytest.mark.slow
def test_two_processes_give_the_loss_curve_of_one_with_twice_the_batch(recipe_of, script, tmp_path):
    # 18 members: the last step of an epoch is not full, and the second process gets no text in it.
    one = recipe_of(output=str(tmp_path / "one"), train__batch_size=8, data__n=18)
    two = recipe_of(output=str(tmp_path / "two"), train__batch_size=4, data__n=18)
    run_recipe(one)
    subprocess.run(
        script(two, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"),
        check=True,
        capture_output=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert losses(one.output) == pytest.approx(losses(two.output), abs=1e-5)
    assert json.loads((tmp_path / "two" / "midistill.json").read_text())["processes"] == 2


def test_a_disk_that_is_full_at_the_end_loses_nothing(recipe_of, monkeypatch, no_reload_check):
    recipe = recipe_of()

    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run_module, "save", full)
    with pytest.raises(InputError, match=r"No space left .*--resume"):
        run_recipe(recipe)
    monkeypatch.undo()
    with pytest.raises(InputError, match="unfinished: add --resume"):
        run_recipe(recipe)
    record = run_recipe(recipe, resume=True)  # no step is left to do
    assert "student_loss_auroc" in record.measured
    assert (Path(recipe.output) / "midistill.json").exists()
