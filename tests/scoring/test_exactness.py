"""A text's figures depend on the model and the text alone: not on its company, its place or the tokenizer's padding."""

from __future__ import annotations

import random

import pytest
from oracle import statistics

from midistill_tasks.views import Unscored

ARCHITECTURES = ["gpt2", "gpt_neox", "llama", "gemma2"]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_batch_size_changes_nothing(architecture, tiny, texts, scoring, views):
    requests = views.plain(texts) + views.after(texts[2:], texts[:2])
    one = scoring.ask(scoring.load(tiny(architecture), batch_size=1), requests)
    eight = scoring.ask(scoring.load(tiny(architecture), batch_size=8), requests)
    auto = scoring.ask(scoring.load(tiny(architecture), batch_size="auto", max_batch_size=16), requests)

    views.assert_same(eight, one)
    views.assert_same(auto, one)


def test_a_batch_that_does_not_fit_is_halved_and_nothing_is_lost(
    tiny, texts, scoring, views, caplog, monkeypatch, tmp_path
):
    import torch

    from midistill_tasks.errors import InputError
    from midistill_tasks.scoring.backends.hf.causal import HFScorer

    asked = [*views.plain(texts[:11]), *views.after(texts[:11], texts[12:14])]
    expected = scoring.ask(scoring.load(tiny("gpt2"), batch_size=8), asked)
    original, room = HFScorer.hidden, 3

    def hidden(self, ids, **kwargs):
        if len(ids) > room and ids.shape[1] > 16:  # those are probes
            raise torch.OutOfMemoryError("made up")
        return original(self, ids, **kwargs)

    monkeypatch.setattr(HFScorer, "hidden", hidden)
    views.assert_same(scoring.ask(scoring.load(tiny("gpt2"), batch_size=8), asked), expected)
    assert "out of memory with 8 texts of" in caplog.text
    assert "going on with 2" in caplog.text
    room = 0
    monkeypatch.chdir(tmp_path)  # where what was scored would be kept
    with pytest.raises(InputError, match=r"out of memory: a text of \d+ tokens alone does not fit.*0 of 22 views"):
        scoring.ask(scoring.load(tiny("gpt2"), batch_size=8), asked)


def test_order_changes_nothing(tiny, texts, scoring, views):
    requests = views.plain(texts) + views.after(texts[2:], texts[:2])
    shuffled = random.Random(0).sample(requests, len(requests))
    lm = scoring.load(tiny("llama"))

    answers = dict(zip(shuffled, scoring.ask(lm, shuffled), strict=True))

    views.assert_same([answers[request] for request in requests], scoring.ask(lm, requests), tolerance=0)


def test_padding_side_of_the_tokenizer_changes_nothing(tiny, texts, scoring, views):
    requests = views.plain(texts) + views.after(texts[2:], texts[:2])
    right, left = scoring.load(tiny("gpt2")), scoring.load(tiny("gpt2"))
    right.tokenizer.padding_side, left.tokenizer.padding_side = "right", "left"

    views.assert_same(scoring.ask(left, requests), scoring.ask(right, requests), tolerance=0)


def test_a_token_that_was_the_arg_max_is_greedy(tiny, texts, scoring, views):
    import torch

    lm = scoring.load(tiny("gpt2"))
    ids = lm.tok_encode(texts[0])
    with torch.no_grad():
        guess = lm.model(torch.tensor([ids])).logits[0, :-1].argmax(-1)

    (stats,) = scoring.ask(lm, views.plain(texts[:1]))

    assert stats.greedy.tolist() == (guess == torch.tensor(ids[1:])).tolist()


# ---------------------------------------------------------------------- short and long texts


def test_a_text_of_one_token_has_nothing_to_score(tiny, texts, scoring, views):
    lm = scoring.load(tiny("gpt2"))
    alone, other = scoring.ask(lm, views.plain(["a", texts[0]]))

    assert alone == Unscored("its only token is the first, which is never scored")
    assert len(other) == len(lm.tok_encode(texts[0])) - 1


def test_a_text_of_one_token_counts_after_the_prefix_token(tiny, scoring, views):
    lm = scoring.load(tiny("gpt2"))
    (stats,) = scoring.ask(lm, views.plain(["a"], first_token="prefix"))

    expected = statistics(lm.model, [lm.prefix_token_id, *lm.tok_encode("a")], 1)
    assert stats.logprob == pytest.approx(expected[:, 0], rel=1e-5)


def test_a_batch_of_texts_of_one_token_is_scored_after_shots(tiny, texts, scoring, views):
    lm = scoring.load(tiny("gpt2"), batch_size=2)
    asked = views.after([*texts[:2], "a", "b"], texts[6:8], "prefix")
    answers = scoring.ask(lm, asked)
    shots = lm.tok_encode("".join(texts[6:8]))
    for text, answer in zip("ab", answers[2:], strict=True):
        ids = [*shots, *lm.tok_encode(text)]
        assert answer.logprob == pytest.approx(statistics(lm.model, ids, len(shots))[:, 0], abs=1e-4)


def test_a_tokenizer_without_bos_and_eos_has_the_same_figures(tiny, texts, scoring, views, caplog):
    lm = scoring.load(tiny("gpt2"))  # whose tokenizer puts nothing in front
    asked = [*views.plain(texts[:4]), *views.after(texts[:4], texts[6:8])]
    before = scoring.ask(lm, asked)
    lm.tokenizer.bos_token = lm.tokenizer.eos_token = None
    assert lm.prefix_token_id is None

    views.assert_same(scoring.ask(lm, asked), before)

    assert "first_token 'prefix' has no effect" not in caplog.text
    views.assert_same(scoring.ask(lm, views.plain(texts[:4], "prefix")), before[:4])
    assert "first_token 'prefix' has no effect: the tokenizer has no token" in caplog.text


def test_an_empty_text_has_nothing_to_score(tiny, scoring, views):
    for architecture in ("gpt2", "llama"):
        (answer,) = scoring.ask(scoring.load(tiny(architecture)), views.plain([""]))
        assert isinstance(answer, Unscored)


@pytest.mark.parametrize("first_token", ["skip", "prefix"])
@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_a_text_longer_than_the_model_keeps_its_first_tokens(architecture, first_token, tiny, texts, scoring, views):
    text = "Żółć 東京 🙂 " + " ".join(texts)
    lm = scoring.load(tiny(architecture), max_length=50)
    (stats,) = scoring.ask(lm, views.plain([text], first_token))

    ids = lm.tok_encode(text)
    if first_token == "prefix" and architecture == "gpt2":
        ids = [lm.prefix_token_id, *ids]
    assert stats.truncated
    assert stats.logprob == pytest.approx(statistics(lm.model, ids[:50], 1)[:, 0], rel=1e-5)
    whole = lm.tokenizer.decode(ids[:50], skip_special_tokens=True).rstrip(
        "\ufffd"
    )  # the cut may go through a character
    assert text[: stats.n_chars].startswith(whole)
    assert stats.n_chars - len(whole) <= 1


def test_what_was_scored_is_counted_without_bos_too(tiny, texts, scoring, views):
    lm = scoring.load(tiny("llama"), max_length=20, add_bos_token=False)
    text = " ".join(texts)
    (stats,) = scoring.ask(lm, views.plain([text]))

    assert text[: stats.n_chars] == lm.tokenizer.decode(lm.tok_encode(text)[:20])


def test_a_text_that_just_fits_is_not_cut(tiny, texts, scoring, views):
    length = len(scoring.load(tiny("gpt2")).tok_encode(texts[1]))
    for room, cut in ((length, False), (length - 1, True)):
        (stats,) = scoring.ask(scoring.load(tiny("gpt2"), max_length=room), views.plain([texts[1]]))
        assert stats.truncated is cut
        assert len(stats) == min(length, room) - 1
        assert (stats.n_chars == len(texts[1])) is not cut


# ---------------------------------------------------------------------- shots


def test_whole_shots_only_within_half_of_the_model(tiny, texts, scoring, views, caplog):
    lm = scoring.load(tiny("gpt2"))
    two, three = (len(lm.tok_encode("".join(texts[:count]))) for count in (2, 3))
    for room, kept in ((two, 2), (three - 1, 2), (three, 3)):
        short = scoring.load(tiny("gpt2"), max_length=2 * room)
        given = scoring.ask(short, views.after(texts[5:8], texts[:3]))
        views.assert_same(given, scoring.ask(short, views.after(texts[5:8], texts[:kept])), tolerance=0)
    assert "only 2 of 3 shots fit" in caplog.text


def test_a_conditional_view_is_cut_at_what_the_prefix_leaves(tiny, texts, scoring, views):
    lm = scoring.load(tiny("gpt2"), max_length=100)
    text, shot = " ".join(texts), texts[5][:60]
    prefix = lm.tok_encode(shot)
    (stats,) = scoring.ask(lm, views.after([text], [shot]))

    expected = statistics(lm.model, (prefix + lm.tok_encode(text))[:100], len(prefix) + 1)
    assert stats.truncated
    assert stats.logprob == pytest.approx(expected[:, 0], rel=1e-4)


def test_no_shot_that_fits_is_said_and_costs_only_these_views(tiny, texts, scoring, views, caplog):
    lm = scoring.load(tiny("gpt2"), max_length=30)
    fine, lost = scoring.ask(lm, views.plain([texts[0]]) + views.after([texts[0]], [" ".join(texts)]))

    assert len(fine)
    assert lost.whole_task
    assert "the first shot alone has" in lost.reason
    assert lost.reason in caplog.text
