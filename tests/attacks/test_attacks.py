"""The attacks as functions of statistics: short texts, cut texts, the same tokens in both terms."""

from __future__ import annotations

import math
import zlib

import numpy as np
import pytest

from midistill_tasks.attacks import ATTACKS, attack
from midistill_tasks.options import defaults
from midistill_tasks.views import MissingStatisticError, TokenStats


def stats(logprob, mean=None, std=None, words=None):
    logprob = np.array(logprob, dtype=np.float32)
    mean = np.zeros_like(logprob) if mean is None else np.array(mean, dtype=np.float32)
    std = np.ones_like(logprob) if std is None else np.array(std, dtype=np.float32)
    return TokenStats(logprob, greedy=np.zeros(len(logprob), dtype=bool), mean=mean, std=std, words=words)


@pytest.mark.parametrize(("tokens", "counted"), [(1, 1), (4, 1), (5, 1), (9, 1), (10, 2), (14, 2), (15, 3)])
def test_mink_counts_a_fifth_rounded_down_but_one_at_least(tokens, counted):
    values = -np.arange(1.0, tokens + 1)
    seen = stats(np.random.default_rng(0).permutation(values))

    assert ATTACKS["mink"](seen, k=0.2) == pytest.approx(np.sort(values)[:counted].mean())


def test_minkpp_normalises_before_it_sorts():
    seen = stats([-9.0, -4.0, -2.0], mean=[-8.0, -2.0, -1.5], std=[2.0, 0.5, 1.0])

    assert ATTACKS["minkpp"](seen, k=0.34) == pytest.approx(-4.0)  # (−4 + 2) / 0.5, not the lowest ℓ


def test_zlib_compresses_what_was_scored():
    text = "naïve words " * 9
    seen = stats([-2.0, -4.0], words=text[:17])

    assert ATTACKS["zlib"](seen) == pytest.approx(-3.0 / len(zlib.compress(text[:17].encode())))


def test_recall_compares_the_same_tokens():
    plain, after = stats([-1.0, -3.0, -100.0]), stats([-1.0, -1.0])

    assert ATTACKS["recall"](plain, after, as_published=False) == pytest.approx(0.5)


def test_recall_as_published_has_one_token_more_in_the_conditional_term():
    plain, after = stats([-1.0, -3.0, -100.0]), stats([-7.0, -1.0, -1.0])

    assert ATTACKS["recall"](plain, after, as_published=True) == pytest.approx(1.5)


def test_recall_without_a_common_token_is_undefined():
    assert math.isnan(ATTACKS["recall"](stats([-1.0]), stats([-1.0]), as_published=True))
    assert math.isnan(ATTACKS["recall"](stats([0.0]), stats([-1.0]), as_published=False))


@pytest.mark.parametrize("name", ATTACKS)
def test_higher_means_member(name):
    """A member is likelier than a non-member under the target, and little is gained by shots in front of it."""
    words = "the same forty characters for both of it"
    reference = stats([-3.0] * 10)
    member = {"text": stats([-1.0] * 10, words=words), "after_shots": stats([-0.99] * 10), "reference": reference}
    other = {"text": stats([-3.0] * 10, words=words), "after_shots": stats([-2.0] * 10), "reference": reference}
    options = defaults(ATTACKS[name].fields)

    assert ATTACKS[name].score(member, options) > ATTACKS[name].score(other, options)


@pytest.mark.parametrize("name", ATTACKS)
def test_an_impossible_token_is_no_error(name):
    """−inf is a legal log-probability: the text is as unlikely as can be, or the score is undefined."""
    seen = {view.name: stats([-1.0, -math.inf, -2.0], words="abc") for view in ATTACKS[name].views}
    if name == "ref":
        seen["reference"] = stats([-1.0, -2.0])

    score = ATTACKS[name].score(seen, defaults(ATTACKS[name].fields))

    assert math.isnan(score) if name == "recall" else score == -math.inf


def test_reading_what_was_not_asked_for_names_the_attack_and_what_it_lacks():
    bare = TokenStats(np.array([-1.0, -2.0], dtype=np.float32))

    assert bare.has == {"logprob"}
    with pytest.raises(MissingStatisticError, match="the attack 'minkpp' reads moments, which these"):
        ATTACKS["minkpp"](bare)
    with pytest.raises(MissingStatisticError, match="the attack 'zlib' reads words"):
        ATTACKS["zlib"](bare)


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_reads_no_more_than_it_needs(name):
    """With the statistics that it names, and no others, it has a score."""
    attack = ATTACKS[name]
    given = {
        "greedy": {"greedy": np.zeros(3, dtype=bool)},
        "moments": {"mean": np.full(3, -2, dtype=np.float32), "std": np.ones(3, dtype=np.float32)},
        "words": {"words": "abc"},
        "logprob": {},
    }
    one = {key: value for need in attack.needs for key, value in given[need].items()}
    seen = TokenStats(np.array([-1.0, -3.0, -2.0], dtype=np.float32), **one)

    assert not math.isnan(attack(*[seen] * len(attack.views)))


def test_an_attack_says_what_shapes_it_and_whether_it_knows_labels():
    assert ATTACKS["recall"].shaped_by == ("as_published", "first_token", "shots")
    assert ATTACKS["ref"].shaped_by == ("first_token", "reference")
    assert ATTACKS["minkpp"].shaped_by == ("k", "first_token")
    assert [name for name, attack in ATTACKS.items() if attack.knows_labels] == ["recall"]
    assert [name for name, attack in ATTACKS.items() if attack.needs_reference] == ["ref"]


def test_a_parameter_that_is_no_view_or_no_option_is_refused_where_it_is_defined():
    with pytest.raises(TypeError, match="the parameter 'shots' is no view; views: text, reference, after_shots"):
        attack("wrong", "…", source="nobody")(lambda shots: 0.0)
    with pytest.raises(TypeError, match=r"give 'k' a default by option\(default, help\)"):
        attack("wrong", "…", source="nobody")(lambda text, *, k=0.2: 0.0)
    assert "wrong" not in ATTACKS
