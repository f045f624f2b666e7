"""The attacks as functions of statistics: short texts, cut texts, the same tokens in both terms."""

from __future__ import annotations

import math
import zlib

import numpy as np
import pytest

from midistill_tasks.attacks import ATTACKS
from midistill_tasks.attacks.recall import score_recall
from midistill_tasks.harness.options import MIAOptions
from midistill_tasks.views import TokenStats


def stats(logprob, mean=None, std=None, n_chars=0):
    logprob = np.array(logprob, dtype=np.float32)
    mean = np.zeros_like(logprob) if mean is None else np.array(mean, dtype=np.float32)
    std = np.ones_like(logprob) if std is None else np.array(std, dtype=np.float32)
    return TokenStats(logprob, mean, std, np.zeros(len(logprob), dtype=bool), n_chars)


@pytest.mark.parametrize(("tokens", "counted"), [(1, 1), (4, 1), (5, 1), (9, 1), (10, 2), (14, 2), (15, 3)])
def test_mink_counts_a_fifth_rounded_down_but_one_at_least(tokens, counted):
    values = -np.arange(1.0, tokens + 1)
    seen = {"text": stats(np.random.default_rng(0).permutation(values))}

    assert ATTACKS["mink"].score(seen, "", k=0.2) == pytest.approx(np.sort(values)[:counted].mean())


def test_minkpp_normalises_before_it_sorts():
    seen = {"text": stats([-9.0, -4.0, -2.0], mean=[-8.0, -2.0, -1.5], std=[2.0, 0.5, 1.0])}

    assert ATTACKS["minkpp"].score(seen, "", k=0.34) == pytest.approx(-4.0)  # (−4 + 2) / 0.5, not the lowest ℓ


def test_zlib_compresses_what_was_scored():
    text = "naïve words " * 9
    seen = {"text": stats([-2.0, -4.0], n_chars=17)}

    assert ATTACKS["zlib"].score(seen, text) == pytest.approx(-3.0 / len(zlib.compress(text[:17].encode())))


def test_recall_compares_the_same_tokens():
    plain, after = stats([-1.0, -3.0, -100.0]), stats([-1.0, -1.0])

    assert score_recall({"text": plain, "after_shots": after}, "", as_published=False) == pytest.approx(0.5)


def test_recall_as_published_has_one_token_more_in_the_conditional_term():
    plain, after = stats([-1.0, -3.0, -100.0]), stats([-7.0, -1.0, -1.0])

    assert score_recall({"text": plain, "after_shots": after}, "", as_published=True) == pytest.approx(1.5)


def test_recall_without_a_common_token_is_undefined():
    assert math.isnan(score_recall({"text": stats([-1.0]), "after_shots": stats([-1.0])}, "", as_published=True))
    assert math.isnan(score_recall({"text": stats([0.0]), "after_shots": stats([-1.0])}, "", as_published=False))


@pytest.mark.parametrize("name", ATTACKS)
def test_higher_means_member(name):
    """A member is likelier than a non-member under the target, and little is gained by shots in front of it."""
    options = {option: getattr(MIAOptions(), option) for option in ATTACKS[name].options}
    reference = stats([-3.0] * 10)
    member = {"text": stats([-1.0] * 10, n_chars=40), "after_shots": stats([-0.99] * 10), "reference": reference}
    other = {"text": stats([-3.0] * 10, n_chars=40), "after_shots": stats([-2.0] * 10), "reference": reference}
    text = "the same forty characters for both of it"

    assert ATTACKS[name].score(member, text, **options) > ATTACKS[name].score(other, text, **options)


@pytest.mark.parametrize("name", ATTACKS)
def test_an_impossible_token_is_no_error(name):
    """−inf is a legal log-probability: the text is as unlikely as can be, or the score is undefined."""
    options = {option: getattr(MIAOptions(), option) for option in ATTACKS[name].options}
    seen = {view.name: stats([-1.0, -math.inf, -2.0], n_chars=3) for view in ATTACKS[name].views}
    if name == "ref":
        seen["reference"] = stats([-1.0, -2.0])

    score = ATTACKS[name].score(seen, "abc", **options)

    assert math.isnan(score) if name == "recall" else score == -math.inf
