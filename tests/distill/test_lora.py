"""An arm with LoRA differs from its control in its intervention only, and what the intervention brings is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from midistill_tasks.distill.interventions.bottleneck import Bottleneck
from midistill_tasks.distill.interventions.nonorm import NoNorm
from midistill_tasks.distill.lora import n_parameters_saved, new_modules, with_lora
from midistill_tasks.distill.run import run_recipe
from midistill_tasks.errors import InputError
from midistill_tasks.models import saving
from midistill_tasks.models.architectures import convert
from midistill_tasks.recipes.schema import Lora

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 64}
FAMILIES = {
    "gpt2": {"bos_token_id": 0, "eos_token_id": 0},
    "gpt_neox": {"intermediate_size": 32},
    "llama": {"intermediate_size": 32, "num_key_value_heads": 1},
    "mixtral": {"intermediate_size": 32, "num_key_value_heads": 1, "num_local_experts": 2},
}
ARMS = {
    "vanilla": [],
    "nonorm": [NoNorm()],
    "bottleneck": [Bottleneck(width=4)],
    "both": [NoNorm(), Bottleneck(width=4, foldable=True)],
}


def student_of(family: str, arm: str) -> tuple[Any, Any]:
    """Before LoRA and after; the first is used up."""
    config = AutoConfig.for_model(family, **SIZES, **FAMILIES.get(family, {}))
    torch.manual_seed(0)
    plain = convert(AutoModelForCausalLM.from_config(config), ARMS[arm])
    return plain, with_lora(plain, Lora(rank=2), new_modules(plain, config))


def trained(model: Any) -> set[str]:
    return {
        name.removeprefix("base_model.model.")
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }


@pytest.mark.parametrize("arm", ["nonorm", "bottleneck", "both"])
@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "llama"])
def test_what_an_intervention_brings_is_trained_whole(family: str, arm: str) -> None:
    _, model = student_of(family, arm)
    brought = {
        f"{name}.{weight}"
        for name, module in model.base_model.model.named_modules()
        if type(module).__name__ in ("NoLayerNorm", "Bottleneck") and ".original_module" not in name
        for weight, _ in module.named_parameters()
    }
    of_arm = {name for name in trained(model) if "lora_" not in name}
    assert of_arm == {name for name in brought if ".original_module." not in name}
    assert len(of_arm) >= 4


@pytest.mark.parametrize("family", FAMILIES)
def test_an_arm_and_its_control_adapt_the_same_modules(family: str) -> None:
    adapters = [
        {name for name in trained(student_of(family, arm)[1]) if "lora_" in name} for arm in ("vanilla", "nonorm")
    ]
    assert adapters[0] == adapters[1]
    assert len(adapters[0]) >= 8


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "llama"])
def test_the_parameters_are_those_of_the_model_that_is_saved_and_it_answers_the_same(family: str, arm: str) -> None:
    plain, model = student_of(family, arm)
    counted = n_parameters_saved(model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.removeprefix("base_model.model.") in trained(model):
                parameter.add_(torch.randn_like(parameter) / 10)
    model.eval()
    ids = torch.arange(12)[None]
    before = model(ids).logits
    merged = model.merge_and_unload()
    assert counted == sum(parameter.numel() for parameter in merged.parameters())
    assert not [name for name in merged.state_dict() if "lora" in name or "modules_to_save" in name]
    assert (type(merged), merged.config.model_type) == (type(plain), plain.config.model_type)
    torch.testing.assert_close(merged(ids).logits, before, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("arm", ["vanilla", "nonorm"])
def test_what_peft_does_not_adapt_is_one_sentence_in_the_arm_and_in_its_control(arm: str) -> None:
    with pytest.raises(InputError, match=r"^student\.lora: peft does not adapt mamba \(.*\): remove 'lora'"):
        student_of("mamba", arm)


@pytest.mark.slow
@pytest.mark.parametrize("interventions", [{}, {"nonorm": True}])
def test_the_adapter_is_kept_beside_the_merged_model(interventions, recipe_of, tiny, tmp_path, monkeypatch):
    """The harness has the student with it, and what it was made from without it.

    The base has no row more than the tokenizer has tokens: the harness cuts such rows off where there is an adapter.
    """
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    from midistill_tasks.harness import yaml_folder

    monkeypatch.setattr(saving, "check_reload", lambda *_: None)
    base_folder = tmp_path / "base"
    tiny.model(vocab_size=62, seed=3).save_pretrained(base_folder)
    tiny.tokenizer().save_pretrained(base_folder)
    student = {"checkpoint": str(base_folder), "reinitialise": False, "lora": {"rank": 2}}
    recipe = recipe_of(student=student, interventions=interventions, train__learning_rate=1e-2, train__epochs=4)
    run_recipe(recipe)
    adapter = Path(recipe.output) / "adapter"
    assert {"adapter_config.json", "adapter_model.safetensors"} <= {path.name for path in adapter.iterdir()}
    if interventions:  # its base stands nowhere
        return
    options: dict[str, Any] = {name: str(tmp_path / f"{name}.jsonl") for name in ("members", "nonmembers")}

    def scores(**args: str) -> dict[str, list[float]]:
        made = simple_evaluate(
            model="hf",
            model_args={"pretrained": str(base_folder), "dtype": "float32", **args},
            tasks=["mia_loss_files", *(["mia_ref_files"] if "peft" in args else [])],
            device="cpu",
            batch_size=4,
            task_manager=TaskManager(
                include_defaults=False,
                include_path=[str(yaml_folder())],
                metadata={"mia": options | ({"reference": "base"} if "peft" in args else {})},
            ),
            bootstrap_iters=0,
        )
        return {task: [row["doc"]["score"] for row in rows] for task, rows in made["samples"].items()}

    base, merged, both = scores(), scores(pretrained=recipe.output), scores(peft=str(adapter))
    assert both["mia_loss_files"] == pytest.approx(merged["mia_loss_files"], rel=1e-4)
    assert both["mia_loss_files"] != pytest.approx(base["mia_loss_files"], rel=1e-3)
    differences = [a - b for a, b in zip(both["mia_loss_files"], base["mia_loss_files"], strict=True)]
    assert both["mia_ref_files"] == pytest.approx(differences, rel=1e-3, abs=1e-5)
