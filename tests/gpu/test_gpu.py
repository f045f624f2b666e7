"""What only a GPU can prove: its kernels against the CPU's float32, memory, and running out of it.

`tests/gpu/run.sh` runs these and prints a table of ratios. ``MIDISTILL_GPU=cpu`` runs what needs no CUDA on the CPU:
a test of these tests.
"""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from conformance import assert_same, conforms, views

from midistill_tasks.scoring.backends.hf.causal import HFScorer
from midistill_tasks.scoring.backends.hf.ways import _Shared, after_prefix
from midistill_tasks.scoring.protocol import Job
from midistill_tasks.scoring.requests import ViewRequest
from midistill_tasks.views import TEXT

DEVICE = os.environ.get("MIDISTILL_GPU", "cuda")
CUDA = torch.cuda.is_available()
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(DEVICE == "cuda" and not CUDA, reason="no CUDA device here"),
]
needs_cuda = pytest.mark.skipif(not CUDA, reason="needs CUDA itself")
MODELS = {
    "gpt2": {},
    "llama": {"hidden_size": 256, "num_attention_heads": 4, "num_key_value_heads": 2},
    "mistral": {"hidden_size": 256, "num_attention_heads": 2, "num_key_value_heads": 1},
    "gemma2": {},
    "gpt_neox": {},
}
"""Heads of 12, 64 and 128, with and without grouped queries, sliding windows, capped logits."""


@pytest.fixture(params=MODELS)
def folder(request, tiny):
    return tiny(request.param, **MODELS[request.param])


def test_float32_gives_the_cpu_s_figures(folder, texts, scoring):
    conforms(scoring.load(folder, device=DEVICE), scoring.load(folder), texts, scoring.ask, tolerance=1e-3)


def test_bfloat16_is_near_and_the_same_in_any_order(folder, texts, scoring):
    asked = views(texts[:6], texts[6:7])
    lm = scoring.load(folder, device=DEVICE, dtype="bfloat16")
    exact, got = scoring.ask(scoring.load(folder), asked), scoring.ask(lm, asked)
    for one, other in zip(got, exact, strict=True):
        assert np.isfinite(one.logprob).all()
        assert abs(float(one.logprob.mean()) / float(other.logprob.mean()) - 1) < 0.1
    again = scoring.ask(lm, asked[::-1])[::-1]
    for one, other in zip(got, again, strict=True):
        np.testing.assert_allclose(one.logprob.mean(), other.logprob.mean(), rtol=2e-2)


@pytest.mark.parametrize("model", ["gpt2", "llama", "llama with heads of 128"])
def test_the_merged_attention_is_taken_in_float32(model, tiny, texts, scoring):
    """And not a slower way in its place, which gives the same figures."""
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1} if "128" in model else {}
    name = model.split()[0]
    assert isinstance(way_of(scoring.load(tiny(name, **{**MODELS[name], **heads}), device=DEVICE), texts), _Shared)


@needs_cuda
def test_the_merged_attention_is_taken_in_bfloat16_by_a_trained_model(smollm2, texts, scoring):
    assert isinstance(way_of(scoring.load(**{**smollm2, "dtype": "bfloat16"}, device=DEVICE), texts), _Shared)


def way_of(lm, texts):
    prefix = tuple(lm.tok_encode("".join(texts[6:8])))
    jobs = [Job(tuple(lm.tok_encode(text)), prefix) for text in texts[:4]]
    jobs.sort(key=lambda job: -len(job.ids))
    with torch.inference_mode():
        return after_prefix(HFScorer(lm), jobs)[0]


@needs_cuda
def test_device_map_auto(folder, texts, scoring):
    conforms(
        scoring.load(folder, parallelize=True, device="cuda"), scoring.load(folder), texts, scoring.ask, tolerance=1e-3
    )


@needs_cuda
@pytest.mark.parametrize("bits", [8, 4])
def test_quantised_models_score_in_any_batch(bits, tiny, texts, scoring):
    pytest.importorskip("bitsandbytes")
    folder = tiny("llama", **MODELS["llama"])
    asked = views(texts[:6], texts[6:7])
    quantised = {f"load_in_{bits}bit": True, "device": "cuda", "dtype": "bfloat16"}
    many, one = (scoring.ask(scoring.load(folder, batch_size=size, **quantised), asked) for size in (8, 1))
    for a, b in zip(many, one, strict=True):
        np.testing.assert_allclose(a.logprob.mean(), b.logprob.mean(), rtol=5e-2)


@needs_cuda
def test_memory_above_the_model_is_less_than_the_logits(tiny, texts, scoring):
    lm = scoring.load(tiny("llama", **MODELS["llama"], vocab_size=64_000), device="cuda", batch_size=8)
    long = [" ".join([f"{number} {text}"] * 40) for number, text in enumerate(texts[:8])]
    scoring.ask(lm, [ViewRequest(texts[0], TEXT)])
    peaks = []
    for way in (
        lambda: lm.model(lm_ids(lm, long)).logits,
        lambda: scoring.ask(lm, [ViewRequest(t, TEXT) for t in long]),
    ):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        with torch.inference_mode():
            way()
        peaks.append(torch.cuda.max_memory_allocated() - before)
    assert peaks[1] < 1.1 * peaks[0]


def lm_ids(lm, texts):
    rows = [lm.tok_encode(text)[: lm.max_length] for text in texts]
    return torch.tensor([row[: min(map(len, rows))] for row in rows], device="cuda")


@needs_cuda
def test_running_out_of_memory_halves_the_batch(tiny, texts, scoring, caplog):
    folder = tiny("llama", **MODELS["llama"], vocab_size=64_000, max_position_embeddings=4096)
    lm = scoring.load(folder, device="cuda", batch_size=256)
    asked = [ViewRequest(" ".join([f"{number} {texts[number % 40]}"] * 100), TEXT) for number in range(256)]
    few = scoring.ask(scoring.load(folder, device="cuda", batch_size=4), asked[:8])
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(min(1.0, (torch.cuda.memory_reserved() + 2e9) / total))
    try:
        answers = scoring.ask(lm, asked)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert "out of memory with 256 texts" in caplog.text
    assert_same(answers[:8], few, 1e-3)
