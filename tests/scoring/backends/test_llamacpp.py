"""llama.cpp in process, against transformers on the weights of the same GGUF file. Runs where llama-cpp-python is."""

from __future__ import annotations

import ctypes
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conformance import assert_same, conforms, views
from serving import serving

from midistill_tasks.errors import InputError
from midistill_tasks.harness.hooks.requests import answer_requests
from midistill_tasks.scoring.requests import ViewRequest
from midistill_tasks.views import REFERENCE, TEXT

llama_cpp = pytest.importorskip("llama_cpp", reason="pip install midistill[llamacpp]")

from midistill_tasks.scoring.backends.llamacpp import LlamaCppLM, LlamaCppScorer  # noqa: E402


@pytest.fixture(scope="module")
def quantised(smollm2) -> Path:
    answer_requests()
    return Path(smollm2["pretrained"]) / smollm2["gguf_file"]


@pytest.fixture(scope="module")
def whole(quantised, tmp_path_factory) -> Path:
    """The same weights in float32, so that what is left between the two is the order of sums."""
    path = tmp_path_factory.mktemp("gguf") / "float32.gguf"
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype, params.allow_requantize = 0, True
    assert llama_cpp.llama_model_quantize(str(quantised).encode(), str(path).encode(), ctypes.byref(params)) == 0
    return path


@pytest.fixture(scope="module")
def lm(whole) -> LlamaCppLM:
    return LlamaCppLM(str(whole), max_length=192)


@pytest.fixture(scope="module")
def hf(smollm2, scoring):
    return scoring.load(**smollm2, max_length=192)


def test_figures_are_those_of_transformers_on_the_same_weights(lm, hf, texts, scoring):
    conforms(lm, hf, texts, scoring.ask)


def test_quantised_kernels_move_a_text_s_mean_by_less_than_a_hundredth(quantised, hf, texts, scoring):
    """llama.cpp multiplies 4-bit weights with activations of 8 bits: the model as it is served is another one."""
    asked = [ViewRequest(text, TEXT) for text in texts[:8]]
    mine, theirs = scoring.ask(LlamaCppLM(str(quantised), max_length=192), asked), scoring.ask(hf, asked)
    moved = [abs(one.logprob.mean() / other.logprob.mean() - 1) for one, other in zip(mine, theirs, strict=True)]
    assert 1e-5 < max(moved) < 2e-2


def test_tokens_are_those_of_the_tokenizer_of_transformers(lm, hf, texts):
    for text in [*texts, "  two\n\nspaces", "<|im_start|> no special", ""]:
        if "<|" not in text:
            assert lm.tok_encode(text) == hf.tok_encode(text)
    assert lm.tok_encode("<|im_start|>") != [1]  # what stands in a text is no control token


def test_the_harness_s_own_requests_agree_too(lm, hf, texts):
    calls = [SimpleNamespace(args=(texts[0][:20], texts[0][20:40])), SimpleNamespace(args=("", "word"))]
    for one, other in zip(lm.loglikelihood(calls), hf.loglikelihood(calls), strict=True):
        assert one[0] == pytest.approx(other[0], rel=1e-3)
        assert one[1] == other[1]
    long = [SimpleNamespace(args=(texts[1] * 15,)), SimpleNamespace(args=(texts[0],))]
    assert lm.loglikelihood_rolling(long) == pytest.approx(hf.loglikelihood_rolling(long), rel=2e-3)
    prompt = SimpleNamespace(
        args=("The capital of France is", {"until": ["\n"], "max_gen_toks": 8, "do_sample": False})
    )
    (made,) = lm.generate_until([prompt])
    assert "Paris" in made


def test_figures_after_generating_are_the_same(lm, texts, scoring):
    asked = views(texts[:1], texts[6:7])
    before = scoring.ask(lm, asked)
    lm.generate_until([SimpleNamespace(args=("Once upon a time", {"until": [], "max_gen_toks": 4}))])
    assert_same(scoring.ask(lm, asked), before, 1e-5)


def test_the_reference_is_another_file_and_files_are_told_apart(lm, quantised, texts, scoring):
    spec = json.dumps({"path": str(quantised), "max_length": 192})
    own, under = scoring.ask(lm, [ViewRequest(texts[0], TEXT), ViewRequest(texts[0], REFERENCE, reference=spec)])
    assert not np.allclose(own.logprob, under.logprob)
    assert LlamaCppScorer(lm).identity() != LlamaCppScorer(LlamaCppLM(str(quantised), max_length=192)).identity()
    with pytest.raises(InputError, match=r"path=none\.gguf: there is no such GGUF file"):
        LlamaCppLM("none.gguf")


def test_the_server_of_llama_cpp_python_is_refused_by_what_it_does(whole, smollm2_folder, texts, scoring, tmp_path):
    pytest.importorskip("tenacity")
    pytest.importorskip("uvicorn", reason="pip install llama-cpp-python[server]")
    from lm_eval.models.openai_completions import LocalCompletionsAPI

    arguments = ["--model", str(whole), "--n_ctx", "256", "--logits_all", "true"]
    with serving("llama_cpp.server", arguments, tmp_path / "log") as address:
        client = LocalCompletionsAPI(
            base_url=address, model="any", tokenizer=str(smollm2_folder), tokenizer_backend="huggingface", max_retries=1
        )
        (answer,) = scoring.ask(client, [ViewRequest(texts[0], TEXT)])
    assert "takes no token ids as a prompt, as llama-cpp-python's server does not" in answer.reason
