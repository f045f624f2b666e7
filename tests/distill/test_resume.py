"""A resumed run has the weights of one that nothing interrupted, bit for bit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from midistill_tasks.distill.record import Record
from midistill_tasks.distill.run import run_recipe
from midistill_tasks.distill.run_folder import check_inputs
from midistill_tasks.errors import InputError
from midistill_tasks.models import saving

CONFIGS = {
    "gpt_neox": {"intermediate_size": 32},  # its head has another name on the disk
    "mixtral": {"intermediate_size": 32, "num_key_value_heads": 1, "num_local_experts": 2},  # and its experts
    "llama": {"intermediate_size": 32, "num_key_value_heads": 1, "tie_word_embeddings": True},
    "gpt2": {"n_positions": 64},
}
LOSSES = ("step", "loss", "ce", "divergence", "train_loss")
SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}


def losses(record: Record) -> list[dict[str, float]]:
    return [{name: value for name, value in line.items() if name in LOSSES} for line in record.log]


@pytest.mark.parametrize("step", [6, 2], ids=["no step left", "the last steps again"])
@pytest.mark.parametrize(
    "student", [*CONFIGS, "bottleneck_nonorm", "lora", "lora_bottleneck_nonorm", "lora_mixtral_nonorm"]
)
def test_what_was_resumed_is_what_was_not_interrupted(student, step, recipe_of, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(saving, "check_reload", lambda *_: None)
    config = {"model_type": student, **SIZES, **CONFIGS.get(student, {})}
    changes: dict[str, Any] = {"train__keep_checkpoints": True}
    changes |= {"student": {"config": config}} if student in CONFIGS else {}
    if student.endswith("bottleneck_nonorm"):
        changes |= {"interventions": {"bottleneck": 4, "nonorm": True}}
    if student.startswith("lora"):
        changes |= {"student": {"every_nth_layer": 2, "reinitialise": False, "lora": {"rank": 2}}}
    if student == "lora_mixtral_nonorm":
        mixture = tiny.model("mixtral", **CONFIGS["mixtral"])
        mixture.save_pretrained(tmp_path / "mixtral")
        tiny.tokenizer().save_pretrained(tmp_path / "mixtral")
        adapted = {"checkpoint": str(tmp_path / "mixtral"), "reinitialise": False, "lora": {"rank": 2}}
        changes |= {"student": adapted, "interventions": {"nonorm": True}}
    recipe = recipe_of(**changes)
    whole = run_recipe(recipe)
    folder = Path(recipe.output)
    weights = load_file(folder / "model.safetensors")
    for path in folder.iterdir():
        if path.is_file() and path.name != "recipe.yaml":
            path.unlink()
    kept = sorted((folder / "checkpoints").iterdir(), key=lambda path: int(path.name.rpartition("-")[2]))
    if step != 6:
        shutil.rmtree(kept[-1])
    resumed = run_recipe(recipe, resume=True)

    again = load_file(folder / "model.safetensors")
    assert weights.keys() == again.keys()
    assert [name for name in weights if not (weights[name] == again[name]).all()] == []
    assert resumed.measured == whole.measured
    assert losses(resumed) == losses(whole)


def test_a_run_does_not_go_on_with_other_texts_another_teacher_or_more_processes(
    recipe_of, tiny, tmp_path, monkeypatch
):
    """Its record would be about the last steps alone."""
    monkeypatch.setattr(saving, "check_reload", lambda *_: None)
    teacher = tmp_path / "teacher"
    for saved in (tiny.model(), tiny.tokenizer()):
        saved.save_pretrained(teacher)
    recipe = recipe_of(teacher={"model": str(teacher)}, train__keep_checkpoints=True)
    run_recipe(recipe)
    folder, members = Path(recipe.output), Path(recipe.data.members)
    (folder / "midistill.json").unlink()  # as if it had been interrupted
    shutil.rmtree(folder / "checkpoints" / "checkpoint-6")

    texts = members.read_text()
    members.write_text(texts.replace("w1", "w2"))
    with pytest.raises(InputError, match=r"made otherwise \(texts, texts that are trained on differ\): restore that"):
        run_recipe(recipe, resume=True)
    members.write_text(texts)
    tiny.model(seed=1).save_pretrained(teacher)
    with pytest.raises(InputError, match=r"checkpoint-4 was made otherwise \(teacher differ\)"):
        run_recipe(recipe, resume=True)
    checkpoint = folder / "checkpoints" / "checkpoint-4"
    with pytest.raises(InputError, match="number of processes differ"):
        check_inputs(checkpoint, {"number of processes": "2"})
    (checkpoint / "midistill_inputs.json").unlink()  # as an older version left it
    sizes = json.loads((checkpoint / "midistill_whole.json").read_text())
    sizes.pop("midistill_inputs.json")
    (checkpoint / "midistill_whole.json").write_text(json.dumps(sizes))
    assert run_recipe(recipe, resume=True).steps == 6
