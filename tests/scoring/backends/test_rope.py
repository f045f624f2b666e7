"""Whatever the rope, a text's figures are those of the text alone, on a model that has read nothing before it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from oracle import statistics
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

LONG = {"rope_type": "longrope", "short_factor": [1.0] * 6, "long_factor": [3.0] * 6, "factor": 4.0}
LONG |= {"original_max_position_embeddings": 64}
PARAMETERS: dict[str, dict[str, Any]] = {
    "default": {"rope_type": "default"},
    "linear": {"rope_type": "linear", "factor": 4.0},
    "dynamic": {"rope_type": "dynamic", "factor": 4.0},
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64},
    "longrope": LONG,
    "llama3": {"rope_type": "llama3", "factor": 4.0, "original_max_position_embeddings": 64}
    | {"low_freq_factor": 1.0, "high_freq_factor": 4.0},
    "proportional": {"rope_type": "proportional", "factor": 4.0, "partial_rotary_factor": 0.5},
}


def theta(parameters: dict[str, Any]) -> dict[str, Any]:
    return {"rope_theta": 10000.0, **parameters}


MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    name: ("llama", {"rope_parameters": theta(value)} | ({"max_position_embeddings": 64} if name == "dynamic" else {}))
    for name, value in PARAMETERS.items()
}
MODELS["mistral longrope"] = ("mistral", {"rope_parameters": theta(LONG), "sliding_window": None})
MODELS["mistral longrope, sliding"] = ("mistral", {"rope_parameters": theta(LONG), "sliding_window": 32})
MODELS["phi3"] = ("phi3", {"rope_parameters": theta(LONG), "original_max_position_embeddings": 64})
MODELS["phimoe"] = ("phimoe", {"rope_parameters": theta(LONG) | {"short_mscale": 1.0, "long_mscale": 1.3}})
MODELS["gemma3, a rope for each kind of layer"] = (
    "gemma3_text",
    {
        "rope_parameters": {
            "sliding_attention": theta({"rope_type": "default"}),
            "full_attention": theta({"rope_type": "dynamic", "factor": 4.0}),
        },
        "layer_types": ["sliding_attention", "full_attention"],
        "max_position_embeddings": 64,
    },
)


def test_every_rope_of_transformers_is_among_them():
    assert set(ROPE_INIT_FUNCTIONS) | {"default"} == set(PARAMETERS)


@pytest.fixture
def judged(texts) -> list[str]:
    """Of 20 to 200 tokens in mixed order: below and above the 64 of the models."""
    chosen = [*texts[:9], " ".join(texts[9:11]), " ".join(texts[11:13])]
    return [chosen[index] for index in (9, 0, 10, 4, 2, 7, 1, 8, 3, 6, 5)]


def assert_alone(answers, model, ids, start):
    expected = statistics(copy.deepcopy(model), ids, start)
    scale = abs(expected).max()
    assert answers.logprob == pytest.approx(expected[:, 0], rel=0, abs=1e-5 * scale)
    assert answers.mean == pytest.approx(expected[:, 1], rel=0, abs=1e-5 * scale)


@pytest.mark.parametrize("name", MODELS)
def test_batches_and_prefixes_leave_a_text_its_own_scaling(name, tiny, texts, judged, scoring, views):
    architecture, config = MODELS[name]
    folder = tiny(architecture, **config)
    fresh = scoring.load(folder, max_length=256)
    shots = [texts[14], texts[21]]
    prefix = fresh.tok_encode("".join(shots))
    assert 20 < len(prefix) < 64  # so that some texts cross the models' 64 after it
    lengths = [len(fresh.tok_encode(text)) for text in judged]
    assert min(lengths) < 64 < max(lengths)
    for batch_size in (1, 4, 16):
        lm = scoring.load(folder, max_length=256, batch_size=batch_size)
        answers = scoring.ask(lm, views.plain(judged) + views.after(judged, shots))
        for index, text in enumerate(judged):
            ids = fresh.tok_encode(text)
            assert_alone(answers[index], fresh.model, ids, 1)
            assert_alone(answers[len(judged) + index], fresh.model, prefix + ids, len(prefix) + 1)


def test_the_model_is_left_as_if_it_had_read_nothing(tiny, judged, scoring, views):
    lm = scoring.load(tiny("llama", **MODELS["dynamic"][1]), max_length=256, batch_size=4)
    ids = torch.tensor([lm.tok_encode(judged[3])[:64]])
    before = lm.model(ids).logits
    scoring.ask(lm, views.plain(judged))
    assert torch.equal(lm.model(ids).logits, before)


def test_what_it_costs_is_said_once(tiny, judged, scoring, views, caplog):
    lm = scoring.load(tiny("llama", **MODELS["longrope"][1]), max_length=256, batch_size=4)
    scoring.ask(lm, views.plain(judged))
    scoring.ask(lm, views.plain(judged))
    said = [record.message for record in caplog.records if "scales positions by the length" in record.message]
    assert len(said) == 1
    assert "(longrope rope): its 11 texts are scored in 2 groups of one scaling each" in said[0]
