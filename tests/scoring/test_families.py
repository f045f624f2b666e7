"""Every causal architecture of transformers agrees with the float64 oracle, in any batch, with and without a prefix.

MIDISTILL_FAMILIES=all python -m pytest tests/scoring/test_families.py     all of them; without it the ten of `SPREAD`
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import _tokenizer
from oracle import statistics
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from midistill_tasks.models.surgery import n_parameters
from midistill_tasks.views import TokenStats, Unscored

LARGEST = 5_000_000
SPREAD = (
    *("gpt2", "gpt_neox", "opt", "bloom", "llama", "gemma2", "qwen3_moe", "mamba2", "jamba", "deepseek_v3"),
)  # fmt: skip
"""Learned and rotary positions, ALiBi, soft caps, experts, states, hybrids, compressed attention."""

NOT_CAUSAL = ("bert", "cpmant", "xlm")
"""As they come; with ``is_decoder`` BERT is."""
_MULTIMODAL = "it is built with a tower for pictures or sound of its full size; its text model stands here itself"
_ENCODER_DECODER = "it is saved as an encoder-decoder, which is refused (tests/scoring/test_models.py)"
LEFT_OUT: dict[str, str] = {
    **dict.fromkeys(
        (
            *("emu3", "fuyu", "gemma3", "gemma3n", "gemma4", "gemma4_unified", "git", "got_ocr2", "llama4", "mllama"),
            *("moss_transcribe_diarize", "phi4_multimodal", "qwen3_5", "qwen3_5_moe", "qwen4_exp", "musicgen"),
            *("musicgen_melody", "gemma4_assistant", "gemma4_unified_assistant", "dots3_note"),
        ),
        _MULTIMODAL,
    ),
    **dict.fromkeys(
        (
            *("bart", "bigbird_pegasus", "blenderbot", "blenderbot-small", "marian", "mbart", "mvp", "pegasus"),
            *("plbart", "prophetnet", "whisper"),
        ),
        _ENCODER_DECODER,
    ),
    "cpmant": "it is not causal",
    "xlm": "it is not causal",
    "xlnet": "it predicts in any order, by masks that a caller makes",
    "blt": "it reads bytes in patches that a second model cuts",
    "dbrx": "transformers 5 cannot build it from its config",
    **dict.fromkeys(
        (
            *("bailing_hybrid", "cohere_compass_text", "dots3_note_text", "hy_v4", "kimi_linear", "longcat_flash"),
            *("nemotron_h", "qwen4_exp_text", "roc_bert", "xlstm", "zamba"),
        ),
        "no small config of it was found",
    ),
    "reformer": "it reads whole chunks of tokens only",
    "xmod": "it asks for a language",
}

SIZES: dict[str, Any] = {
    "hidden_size": 32, "n_embd": 32, "d_model": 32, "intermediate_size": 64, "ffn_dim": 64, "n_inner": 64,
    "ffn_hidden_size": 64, "word_embed_proj_dim": 32, "decoder_ffn_dim": 64,
    "num_hidden_layers": 2, "n_layer": 2, "n_layers": 2, "num_layers": 2, "decoder_layers": 2,
    "num_attention_heads": 4, "n_head": 4, "n_heads": 4, "num_heads": 4, "decoder_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "rotary_dim": 4, "sliding_window": 32,
    "max_position_embeddings": 512, "n_positions": 512, "max_seq_len": 512,
    "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "moe_num_experts": 4, "num_experts_per_tok": 2,
    "moe_topk": 2, "moe_k": 2, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16,
    "n_group": 1, "topk_group": 1,
    "state_size": 8, "mamba_d_state": 8, "mamba_n_heads": 4, "mamba_d_head": 16, "mamba_num_heads": 4,
    "mamba_head_dim": 16, "ssm_state_size": 8,
    "hidden_size_per_layer_input": 8, "laurel_rank": 4, "num_kv_shared_layers": 0,
    "layer_types": None, "mlp_layer_types": None, "is_decoder": True, "bos_token_id": 0, "eos_token_id": 0,
    "pad_token_id": 0,
}  # fmt: skip
"""Of whatever a config has; what it has not is left alone, and ... leaves a key to the config."""
_LATENT = {
    "num_key_value_heads": 4, "head_dim": ..., "kv_lora_rank": 8, "q_lora_rank": 8, "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 4, "v_head_dim": 8,
}  # fmt: skip
_PADDED = {"pad_token_id": 1}
_HYBRID = {"num_hidden_layers": 4}
OWN: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("axk1", "axk2", "deepseek_v2", "deepseek_v3", "deepseek_v32", "glm_moe_dsa", "youtu"), _LATENT),
    **dict.fromkeys(("glm4_moe_lite", "minicpm3"), _LATENT),
    **dict.fromkeys(("camembert", "data2vec-text", "roberta", "roberta-prelayernorm"), _PADDED),
    **dict.fromkeys(("xlm-roberta", "xlm-roberta-xl", "modernbert-decoder"), _PADDED),
    **dict.fromkeys(("qwen3_next", "qwen3_5_text", "qwen3_5_moe_text", "recurrent_gemma"), _HYBRID),
    **dict.fromkeys(("lfm3", "olmo_hybrid"), _HYBRID),
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2},
    "bamba": {"attn_layer_indices": [1]},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"]},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "window_size": 32},
    "mamba2": {"num_heads": 8, "head_dim": 8, "n_groups": 2},
    "dots1": {"n_shared_experts": 1},
    "falcon_h1": {"mamba_d_ssm": 64, "mamba_n_heads": 4, "mamba_d_head": 16},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1},
    "zamba2": {"num_hidden_layers": 3, "layer_types": ["mamba", "mamba", "hybrid"]},
    "zaya": {"num_experts_per_tok": 1},
}


def families() -> list[str]:
    if os.environ.get("MIDISTILL_FAMILIES") == "all":
        return sorted(set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES) - LEFT_OUT.keys() - {"midistill"})
    return list(SPREAD)


def config_of(family: str, vocab_size: int) -> Any:
    """Small in every size that the family's config has."""
    kind = CONFIG_MAPPING[family]
    has, names = kind().to_dict(), kind.attribute_map
    sizes = {"vocab_size": vocab_size, **SIZES, **OWN.get(family, {})}
    given = {names.get(key, key): value for key, value in sizes.items()}
    return kind(**{key: value for key, value in given.items() if key in has and value is not ...})


def made(family: str, folder: Path) -> Path:
    """A model of the family that has opinions, and its tokenizer."""
    tokenizer = _tokenizer(bos=False)
    torch.manual_seed(0)
    config = config_of(family, len(tokenizer))
    assert n_parameters(config) < LARGEST, f"{family} is large: give its sizes in OWN"
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for embedding in (model.get_input_embeddings(), model.get_output_embeddings()):
            if getattr(embedding, "weight", None) is not None:
                embedding.weight.mul_(5)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def assert_exact(answer: Any, expected: Any) -> None:
    assert isinstance(answer, TokenStats), answer
    for name, column in (("logprob", 0), ("mean", 1), ("std", 2)):
        wanted = expected[:, column]
        assert getattr(answer, name) == pytest.approx(wanted, rel=0, abs=2e-5 * max(1, abs(wanted).max())), name


@pytest.mark.parametrize("family", families())
def test_a_family_is_exact_in_any_batch_with_and_without_a_prefix(family, texts, scoring, views, tmp_path):
    folder = made(family, tmp_path)
    shots, judged = texts[:2], texts[2:18]
    for batch_size in (1, 4, 16):
        lm = scoring.load(folder, batch_size=batch_size)
        if batch_size == 1:
            assert len(lm.tok_encode("Born in Paris")) > 1
            prefix = lm.tok_encode("".join(shots))
            plain = [statistics(lm.model, lm.tok_encode(text), 1) for text in judged]
            after = [statistics(lm.model, prefix + lm.tok_encode(text), len(prefix) + 1) for text in judged]
        answers = scoring.ask(lm, views.plain(judged) + views.after(judged, shots))
        for answer, expected in zip(answers, plain + after, strict=True):
            assert_exact(answer, expected)


@pytest.mark.parametrize("family", NOT_CAUSAL)
def test_a_model_that_looks_ahead_is_refused(family, texts, scoring, views, tmp_path, monkeypatch):
    monkeypatch.setitem(SIZES, "is_decoder", False)
    lm = scoring.load(made(family, tmp_path))
    (answer,) = scoring.ask(lm, views.plain(texts[:1]))
    assert isinstance(answer, Unscored)
    assert "sees what comes after a token" in answer.reason


def test_what_is_left_out_is_a_family():
    assert LEFT_OUT.keys() <= set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
    assert set(SPREAD) <= set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
