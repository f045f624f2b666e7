"""The prefix is read once where that is exact, and again for every text where it is not."""

from __future__ import annotations

import contextlib

import pytest

from midistill_tasks.scoring.backends.hf import causal as huggingface
from midistill_tasks.scoring.backends.hf.causal import HFScorer
from midistill_tasks.scoring.backends.hf.prefix import NAME, shared_prefix
from midistill_tasks.scoring.backends.hf.ways import _Expanded, _Shared, concatenated
from midistill_tasks.scoring.protocol import Job


@pytest.fixture
def chosen(monkeypatch):
    """Names of the ways that were chosen."""
    names = []
    original = huggingface.after_prefix

    def record(scorer, jobs):
        way, stats = original(scorer, jobs)
        names.append(getattr(way, "__name__", type(way).__name__))
        return way, stats

    monkeypatch.setattr(huggingface, "after_prefix", record)
    return names


def by_concatenation(lm, texts, shots, first=1):
    """One text at a time behind the whole prefix, in arrays [logprob, mean, std, greedy]."""
    import torch

    prefix = tuple(lm.tok_encode("".join(shots)))
    with torch.inference_mode():
        return [concatenated(HFScorer(lm), [Job(tuple(lm.tok_encode(text)), prefix, first)]) for text in texts]


@pytest.mark.parametrize("first_token", ["skip", "always"])
@pytest.mark.parametrize(
    ("architecture", "config", "way"),
    [
        ("gpt2", {}, "_Shared"),
        ("gpt_neox", {}, "_Shared"),
        ("llama", {}, "_Shared"),  # grouped-query heads
        ("llama", {"num_key_value_heads": 4}, "_Shared"),
        ("llama", {"num_key_value_heads": 1}, "_Shared"),
        ("gemma2", {}, "concatenated"),  # soft-capped
        ("mamba", {}, "concatenated"),  # recurrent
    ],
)
def test_every_way_gives_the_same_figures(architecture, config, way, first_token, tiny, texts, scoring, views, chosen):
    lm, shots = scoring.load(tiny(architecture, **config)), texts[:2]
    answers = scoring.ask(lm, views.after(texts[2:20], shots, first_token))

    assert chosen == [way]
    expected = by_concatenation(lm, texts[2:20], shots, first=0 if first_token == "always" else 1)
    for got, stats in zip(answers, expected, strict=True):
        scale = float(stats.logprob.abs().max())
        assert got.logprob == pytest.approx(stats.logprob.numpy(), rel=0, abs=3e-5 * scale)
        assert got.mean == pytest.approx(stats.mean.numpy(), rel=0, abs=3e-5 * scale)


@pytest.mark.parametrize("architecture", ["gpt2", "gpt_neox", "llama"])
def test_expanded_caches_are_exact_where_attention_cannot_be_shared(
    architecture, tiny, texts, scoring, views, chosen, monkeypatch
):
    lm, shots = scoring.load(tiny(architecture)), texts[:2]
    shared = scoring.ask(lm, views.after(texts[2:12], shots))
    monkeypatch.setattr("midistill_tasks.scoring.backends.hf.prefix._flash", None)
    expanded = scoring.ask(lm, views.after(texts[2:12], shots))

    assert chosen == ["_Shared", "_Expanded"]
    views.assert_same(expanded, shared, tolerance=3e-5)


@pytest.mark.parametrize("window", [8, 32])
def test_a_sliding_window_shorter_than_the_prefix_is_not_shared(window, tiny, texts, scoring, views, chosen):
    folder = tiny("mistral", sliding_window=window, num_key_value_heads=2)
    lm, shots = scoring.load(folder), texts[:3]
    assert len(lm.tok_encode("".join(shots))) > window
    answers = scoring.ask(lm, views.after(texts[3:12], shots))

    assert chosen != ["_Shared"]
    for got, stats in zip(answers, by_concatenation(lm, texts[3:12], shots), strict=True):
        assert got.logprob == pytest.approx(stats.logprob.numpy(), rel=0, abs=1e-4)


def test_a_way_that_is_wrong_in_company_is_not_taken(tiny, texts, scoring, views, chosen, monkeypatch):
    """The check reads a whole batch: a way that mixes rows is right for one alone."""
    original = _Shared.__call__

    def mixed(self, scorer, jobs):
        stats = original(self, scorer, jobs)
        return stats if len(jobs) == 1 else stats._replace(logprob=stats.logprob.flip(0))

    monkeypatch.setattr(_Shared, "__call__", mixed)
    scoring.ask(scoring.load(tiny("gpt2")), views.after(texts[2:6], texts[:2]))

    assert chosen == ["_Expanded"]


def test_the_attention_of_the_model_is_restored_even_after_an_exception(tiny, texts, scoring, views, monkeypatch):
    lm = scoring.load(tiny("gpt2"))
    before = lm.model.config._attn_implementation
    inside = []
    with contextlib.suppress(KeyboardInterrupt), shared_prefix(lm.model, []):
        inside.append(lm.model.config._attn_implementation)
        raise KeyboardInterrupt
    assert inside == [NAME]
    assert lm.model.config._attn_implementation == before

    plain = scoring.ask(lm, views.plain(texts[:4]))
    scoring.ask(lm, views.after(texts[2:6], texts[:2]))
    assert lm.model.config._attn_implementation == before
    views.assert_same(scoring.ask(lm, views.plain(texts[:4])), plain, tolerance=0)


def test_the_prefix_is_read_once_for_all_texts(tiny, texts, scoring, views):
    """Tokens that the model reads: prefix and texts, and what choosing the way costs; not a prefix per text."""
    lm = scoring.load(tiny("gpt2"), batch_size=4)
    read = []
    lm.model.get_input_embeddings().register_forward_pre_hook(lambda module, args: read.append(args[0].numel()))
    scoring.ask(lm, views.after(texts[2:], texts[:2]))

    prefix = len(lm.tok_encode("".join(texts[:2])))
    longest = max(len(lm.tok_encode(text)) for text in texts)
    padded = len(texts[2:]) * longest
    assert sum(read) < padded + prefix + longest + 32 + 1


@pytest.mark.parametrize("kind", [_Shared, _Expanded])
def test_a_failure_of_a_fast_way_is_not_the_end(kind, tiny, texts, scoring, views, chosen, monkeypatch):
    def fails(self, scorer, jobs):
        raise RuntimeError("no such op")

    monkeypatch.setattr(_Shared, "__call__", fails)
    if kind is _Expanded:
        monkeypatch.setattr(_Expanded, "__call__", fails)
    lm = scoring.load(tiny("gpt2"))
    answers = scoring.ask(lm, views.after(texts[2:6], texts[:2]))

    assert chosen == ["_Expanded" if kind is _Shared else "concatenated"]
    for got, stats in zip(answers, by_concatenation(lm, texts[2:6], texts[:2]), strict=True):
        assert got.logprob == pytest.approx(stats.logprob.numpy(), rel=0, abs=1e-4)
