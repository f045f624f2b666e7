"""Every n-th layer of a model that mixes kinds of layers: the student is the teacher without the others."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from midistill_tasks.errors import InputError
from midistill_tasks.models.surgery import blocks_of
from midistill_tasks.models.thinning import thinned, thinned_config

SIZES = {"hidden_size": 16, "num_hidden_layers": 6, "num_attention_heads": 2, "intermediate_size": 32}
GROUPED = {**SIZES, "num_key_value_heads": 1, "head_dim": 8}
SHORT = {"sliding_window": 4}
MIXED = [f"{kind}_attention" for kind in ("full", "sliding", "sliding", "full", "sliding", "full")]
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 8}
FAMILIES: dict[str, dict[str, Any]] = {
    "gpt2": {"n_embd": 16, "n_layer": 6, "n_head": 2},
    "gpt_neo": {
        "hidden_size": 16, "num_layers": 6, "num_heads": 2, "window_size": 4,
        "attention_types": [[["global", "local"], 3]],
    },
    "gpt_neox": SIZES,
    "gptj": {"n_embd": 16, "n_layer": 6, "n_head": 2, "rotary_dim": 4},
    "bloom": {"hidden_size": 16, "n_layer": 6, "n_head": 2},
    "opt": {**SIZES, "ffn_dim": 32, "word_embed_proj_dim": 16},
    "llama": GROUPED,
    "mistral": {**GROUPED, **SHORT},
    "phi3": {**GROUPED, "pad_token_id": 0},
    "qwen2": {**GROUPED, **SHORT, "use_sliding_window": True, "max_window_layers": 3},
    "qwen3": {**GROUPED, **SHORT, "use_sliding_window": True, "layer_types": MIXED},
    "qwen3_moe": {**GROUPED, **EXPERTS, "mlp_only_layers": [0, 3, 4]},
    "gemma2": {**GROUPED, **SHORT},
    "gemma3_text": {**GROUPED, **SHORT, "layer_types": MIXED},
    "cohere2": {**GROUPED, **SHORT, "layer_types": MIXED},
    "olmo3": {**GROUPED, **SHORT, "layer_types": MIXED},
    "smollm3": {**GROUPED, "no_rope_layers": [1, 0, 0, 1, 1, 0], "pad_token_id": 0},
    "gpt_oss": {**GROUPED, **SHORT, "num_local_experts": 4, "num_experts_per_tok": 2, "layer_types": MIXED},
    "deepseek_v3": {
        **SIZES, "first_k_dense_replace": 3, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 2,
        "topk_group": 1, "moe_intermediate_size": 8, "kv_lora_rank": 8, "q_lora_rank": 8, "qk_rope_head_dim": 4,
        "qk_nope_head_dim": 4, "v_head_dim": 8,
    },
    "mamba": {"hidden_size": 16, "num_hidden_layers": 6, "state_size": 4},
}  # fmt: skip


def made(family: str) -> Any:
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, vocab_size=64, **FAMILIES[family])
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


@pytest.mark.parametrize("step", [2, 3])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_student_answers_as_its_teacher_without_the_other_layers(family: str, step: int) -> None:
    teacher = made(family)
    config = thinned_config(teacher.config, step)
    student = thinned(teacher, config, step).eval()
    name, blocks = blocks_of(teacher, teacher.config)
    ids = torch.arange(3, 27)[None]
    with torch.no_grad():
        ours = student(ids, use_cache=False).logits
        whole = teacher(ids, use_cache=False).logits
        parent = teacher.get_submodule(name.rpartition(".")[0])
        setattr(parent, name.rpartition(".")[2], nn.ModuleList(blocks[::step]))
        teacher.config.num_hidden_layers = len(blocks[::step])  # some forwards count
        for key in ("layer_types", "no_rope_layers"):
            if teacher.config.to_dict().get(key) and family != "mamba":  # whose list is made of its number of layers
                setattr(teacher.config, key, getattr(teacher.config, key)[::step])
        theirs = teacher(ids, use_cache=False).logits
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    assert (whole - theirs).abs().max() > 1e-2
    again = type(config).from_dict(config.to_dict())
    assert again.num_hidden_layers == len(range(0, 6, step))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_step_of_one_keeps_the_teacher_as_it_is(family: str) -> None:
    config = made(family).config
    assert thinned_config(config, 1).to_dict() == config.to_dict() or family == "gpt_neo"


def test_where_the_kind_follows_from_the_number_it_is_refused() -> None:
    config = AutoConfig.for_model(
        "jamba",
        vocab_size=64,
        **GROUPED,
        attn_layer_period=3,
        attn_layer_offset=1,
        expert_layer_period=2,
        num_experts=2,
    )
    with pytest.raises(InputError, match=r"student\.every_nth_layer: layer \d+ of the teacher would be another kind"):
        thinned_config(config, 2)


def test_a_window_of_layers_that_ends_inside_keeps_its_layers() -> None:
    config = AutoConfig.for_model("qwen2", vocab_size=64, **FAMILIES["qwen2"])
    assert config.layer_types == ["full_attention"] * 3 + ["sliding_attention"] * 3
    thin = thinned_config(config, 2)
    assert thin.layer_types == ["full_attention", "full_attention", "sliding_attention"]


def test_as_many_end_of_text_tokens_as_layers_are_no_list_of_the_layers(tiny):
    config = tiny.model("llama", layers=3, eos_token_id=[2, 3, 4]).config
    assert thinned_config(config, 2).eos_token_id == [2, 3, 4]
