"""Models as the harness loads them: half precision, adapters, foreign heads, broken logits: exact, or unscored."""

from __future__ import annotations

import json

import pytest
import torch
from oracle import statistics
from torch import nn

from midistill_tasks.scoring.backends.hf.causal import HFScorer
from midistill_tasks.scoring.run import NOT_FINITE
from midistill_tasks.views import TokenStats, Unscored


def assert_exact(lm, texts, scoring, views, rel=1e-5, model=None):
    """Against the model's own forward, plain and after shots, one text at a time."""
    model = model or lm.model
    shots, judged = texts[:2], texts[2:9]
    answers = scoring.ask(lm, views.plain(judged) + views.after(judged, shots))
    prefix = lm.tok_encode("".join(shots))
    for index, text in enumerate(judged):
        ids = lm.tok_encode(text)
        for answer, expected in (
            (answers[index], statistics(model, ids, 1)),
            (answers[len(judged) + index], statistics(model, prefix + ids, len(prefix) + 1)),
        ):
            assert isinstance(answer, TokenStats)
            scale = abs(expected).max()
            assert answer.logprob == pytest.approx(expected[:, 0], rel=0, abs=rel * scale)
            assert answer.mean == pytest.approx(expected[:, 1], rel=0, abs=rel * scale)
            assert answer.std == pytest.approx(expected[:, 2], rel=0, abs=10 * rel * scale)


def test_a_recurrent_model(tiny, texts, scoring, views):
    assert_exact(scoring.load(tiny("mamba")), texts, scoring, views)


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gemma2"])
def test_bfloat16(architecture, tiny, texts, scoring, views):
    """The shared prefix rounds elsewhere than the plain way; on the plain view the figures are the model's own."""
    lm = scoring.load(tiny(architecture), dtype="bfloat16")
    plain = scoring.ask(lm, views.plain(texts[:6]))
    for text, answer in zip(texts, plain, strict=False):
        expected = statistics(lm.model, lm.tok_encode(text), 1)
        assert answer.logprob == pytest.approx(expected[:, 0], rel=0, abs=2e-2 * abs(expected).max())
    assert_exact(lm, texts, scoring, views, rel=5e-2)


def test_soft_capping_is_seen_in_bfloat16_too(tiny, scoring):
    lm = scoring.load(tiny("gemma2"), dtype="bfloat16")
    assert not HFScorer(lm).short_way_holds(torch.tensor([lm.tok_encode("Born in Paris on 2 May 1949")]))


def test_mixed_precision(tiny, texts, scoring, views):
    lm = scoring.load(tiny("llama"), mixed_precision_dtype="bfloat16")
    with torch.autocast("cpu", torch.bfloat16):
        expected = statistics(lm.model, lm.tok_encode(texts[0]), 1)
    (answer,) = scoring.ask(lm, views.plain(texts[:1]))

    assert answer.logprob == pytest.approx(expected[:, 0], rel=0, abs=2e-2 * abs(expected).max())
    float32 = statistics(lm.model, lm.tok_encode(texts[0]), 1)
    assert abs(answer.logprob - float32[:, 0]).max() > 1e-5  # it was on


class Quantised(nn.Linear):
    def forward(self, x):
        return nn.functional.linear(x, self.weight.round(decimals=1), self.bias)


def test_a_quantised_head(tiny, texts, scoring, views):
    lm = scoring.load(tiny("llama"))
    quantised = Quantised(*reversed(lm.model.lm_head.weight.shape), bias=False).requires_grad_(False)
    quantised.weight = lm.model.lm_head.weight
    lm.model.lm_head = quantised
    assert_exact(lm, texts, scoring, views)


def test_a_head_with_a_bias(tiny, texts, scoring, views):
    lm = scoring.load(tiny("llama"))
    head = nn.Linear(*reversed(lm.model.lm_head.weight.shape)).requires_grad_(False)
    head.bias.normal_(std=3)
    lm.model.lm_head = head
    assert_exact(lm, texts, scoring, views)


def test_logits_scaled_after_the_head(tiny, texts, scoring, views):
    lm = scoring.load(tiny("cohere", logit_scale=0.5))
    assert_exact(lm, texts, scoring, views)


# ---------------------------------------------------------------------- adapters


@pytest.fixture
def lora(tiny, tmp_path):
    """A folder with a LoRA adapter of `tiny("llama")` that changes every projection and the head."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_pretrained(tiny("llama"))
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "v_proj", "down_proj", "lm_head"]))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.3)
    adapted.save_pretrained(tmp_path / "lora", save_embedding_layers=False)
    return tmp_path / "lora"


def test_lora(lora, tiny, texts, scoring, views):
    assert_exact(scoring.load(tiny("llama"), peft=str(lora)), texts, scoring, views)


def test_the_reference_base_is_the_target_without_its_adapter(lora, tiny, texts, scoring, views):
    target = scoring.load(tiny("llama"), peft=str(lora))
    answers = scoring.ask(target, views.plain(texts[:8]) + views.under(texts[:8], "base"))
    again = scoring.ask(target, views.plain(texts[:8]))

    views.assert_same(answers[8:], scoring.ask(scoring.load(tiny("llama")), views.plain(texts[:8])))
    views.assert_same(again, answers[:8], tolerance=0)  # it is on again
    assert abs(answers[0].logprob - answers[8].logprob).max() > 0.1


def test_the_reference_base_of_a_model_without_an_adapter_is_refused(tiny, texts, scoring, views, caplog):
    fine, refused = scoring.ask(scoring.load(tiny("llama")), views.plain(texts[:1]) + views.under(texts[:1], "base"))

    assert isinstance(fine, TokenStats)
    assert refused.whole_task
    assert "without its adapter" in refused.reason
    assert refused.reason in caplog.text


@pytest.mark.parametrize("kind", ["PromptTuningConfig", "PrefixTuningConfig"])
def test_virtual_tokens_in_front(kind, tiny, texts, scoring, views):
    """The model answers with more positions than it was given, or attends to more."""
    import peft

    lm = scoring.load(tiny("llama"))
    torch.manual_seed(4)
    config = getattr(peft, kind)(task_type="CAUSAL_LM", num_virtual_tokens=5)
    adapted = peft.get_peft_model(lm.model, config).eval()
    adapted.prompt_encoder.requires_grad_(False)
    lm._model = adapted
    tuned = scoring.ask(lm, views.plain(texts[:5]))

    for text, answer in zip(texts, tuned, strict=False):
        ids = lm.tok_encode(text)
        with torch.no_grad():
            logits = adapted(torch.tensor([ids])).logits[0, -len(ids) : -1]
        expected = torch.log_softmax(logits.double(), -1)[range(len(ids) - 1), ids[1:]]
        assert answer.logprob == pytest.approx(expected.numpy(), rel=0, abs=1e-4)


# ---------------------------------------------------------------------- references


def test_a_reference_that_cannot_be_loaded_costs_only_its_views(tiny, texts, scoring, views, caplog):
    reference = json.dumps({"pretrained": "/nowhere"})
    fine, lost = scoring.ask(scoring.load(tiny("gpt2")), views.plain(texts[:1]) + views.under(texts[:1], reference))

    assert isinstance(fine, TokenStats)
    assert lost.whole_task
    assert "/nowhere" in lost.reason
    assert lost.reason in caplog.text


@pytest.mark.parametrize("same", [True, False])
def test_a_reference_that_is_the_target_compares_nothing(same, tiny, texts, scoring, views, caplog):
    reference = json.dumps({"pretrained": str(tiny("gpt2", seed=0 if same else 1)), "dtype": "float32"})
    asked = views.plain(texts[:4]) + views.under(texts[:4], reference)
    answers = scoring.ask(scoring.load(tiny("gpt2")), asked)

    assert all(isinstance(answer, TokenStats) for answer in answers[:4])
    assert all(isinstance(answer, Unscored) == same for answer in answers[4:])
    assert ("the same probabilities as the model under evaluation: name another model" in caplog.text) == same


def test_a_reference_takes_model_args_of_its_own(tiny, texts, scoring, views):
    spec = {"pretrained": str(tiny("gpt2")), "dtype": "float32", "batch_size": 2, "max_length": 12}
    (short,) = scoring.ask(scoring.load(tiny("llama")), views.under(texts[:1], json.dumps(spec)))

    assert len(short) == 11
    assert short.truncated


# ---------------------------------------------------------------------- broken models


def spoiled(lm, value, columns=slice(3, 4)):
    """The model with these columns of its logits set, by its own head."""
    lm.model.lm_head.register_forward_hook(lambda module, args, logits: logits.index_fill(-1, columns, value))
    return lm


@pytest.mark.parametrize("architecture", ["gpt2", "gemma2"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_logits_that_are_nan_or_infinite_are_unscored(value, architecture, tiny, texts, scoring, views):
    lm = spoiled(scoring.load(tiny(architecture)), value, torch.tensor([3]))
    answers = scoring.ask(lm, views.plain(texts[:3]) + views.after(texts[2:4], texts[:2]))

    if architecture == "gemma2" and value == float("inf"):  # soft-capping makes it finite: legal
        assert all(isinstance(answer, TokenStats) for answer in answers)
    else:
        assert answers == [Unscored(NOT_FINITE)] * 5


def test_a_model_that_gives_nothing_but_nan_is_unscored(tiny, texts, scoring, views):
    lm = scoring.load(tiny("gpt2"))
    with torch.no_grad():
        lm.model.transformer.wte.weight[:] = torch.nan
    assert scoring.ask(lm, views.plain(texts[:2])) == [Unscored(NOT_FINITE)] * 2


def test_logits_of_minus_infinity_are_legal(tiny, texts, scoring, views):
    """As where a model forbids tokens: they take no part, and a text that holds one is impossible."""
    lm = scoring.load(tiny("gpt2"))
    used = set(lm.tok_encode(" ".join(texts[:9])))
    never = [token for token in range(lm.vocab_size) if token not in used]
    assert_exact(spoiled(lm, -torch.inf, torch.tensor(never)), texts[:9], scoring, views)

    ids = lm.tok_encode(texts[0])
    (answer,) = scoring.ask(spoiled(lm, -torch.inf, torch.tensor([ids[2]])), views.plain([texts[0]]))
    assert answer.logprob[1] == -torch.inf
    assert (answer.logprob == -torch.inf).sum() == ids[1:].count(ids[2])


def test_weights_that_are_fetched_when_needed(tiny, texts, scoring, views):
    from accelerate import cpu_offload

    lm = scoring.load(tiny("llama"))
    expected = scoring.ask(lm, views.plain(texts[:5]))
    cpu_offload(lm.model, execution_device=torch.device("cpu"))
    assert lm.model.lm_head.weight.device.type == "meta"

    views.assert_same(scoring.ask(lm, views.plain(texts[:5])), expected)


# ---------------------------------------------------------------------- no figures at all


def test_an_encoder_decoder_model_is_refused(tiny, texts, scoring, views, caplog):
    lm = scoring.load(tiny("gpt2"))
    lm.backend = "seq2seq"
    (answer,) = scoring.ask(lm, views.plain(texts[:1]))
    assert answer.whole_task
    assert "encoder-decoder" in answer.reason
    assert answer.reason in caplog.text


def test_a_model_without_a_tokenizer_is_refused(tiny, texts, scoring, views):
    lm = scoring.load(tiny("gpt2"))
    lm.tokenizer = None
    (answer,) = scoring.ask(lm, views.plain(texts[:1]))
    assert answer.whole_task
    assert "tokenizer=" in answer.reason


def test_a_backend_without_distributions_is_refused(texts, scoring, views, caplog):
    from lm_eval.models.dummy import DummyLM

    from midistill_tasks.harness.hooks.requests import answer_requests

    answer_requests()
    answers = scoring.ask(DummyLM(), views.plain(texts[:2]))
    assert all(answer.whole_task and "DummyLM" in answer.reason for answer in answers)
    assert "`midistill backends` lists those that do" in caplog.text


@pytest.mark.slow
def test_a_causal_model_in_half_precision_is_not_taken_for_one_that_looks_ahead(smollm2, scoring):
    """Its logits of 8 and of 16 tokens differ by more than an eighth of the greatest in bfloat16 on this CPU."""
    from midistill_tasks.scoring.backends.hf.causal import HFScorer

    for dtype in ("bfloat16", "float16"):
        assert HFScorer(scoring.load(**{**smollm2, "dtype": dtype})).refuses() is None
