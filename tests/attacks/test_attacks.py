"""The attacks as functions of statistics: short texts, cut texts, the same tokens in both terms."""

from __future__ import annotations

import math
import re
import zlib

import numpy as np
import pytest

from midistill_tasks.attacks import ATTACKS, attack
from midistill_tasks.attacks.combined import parts
from midistill_tasks.attacks.generation import halves
from midistill_tasks.attacks.pac import swapped
from midistill_tasks.options import defaults
from midistill_tasks.views import Generated, MissingStatisticError, TokenStats, UnscorableError

SCORED = [name for name, kind in ATTACKS.items() if not (kind.fitted or kind.generates)]


def stats(logprob, mean=None, std=None, words=None, greedy=None, tokens=None, frequency=None):
    logprob = np.array(logprob, dtype=np.float32)
    mean = np.zeros_like(logprob) if mean is None else np.array(mean, dtype=np.float32)
    std = np.ones_like(logprob) if std is None else np.array(std, dtype=np.float32)
    greedy = np.zeros(len(logprob), dtype=bool) if greedy is None else np.array(greedy, dtype=bool)
    tokens = np.arange(len(logprob)) if tokens is None else np.array(tokens)
    frequency = np.full(len(logprob), 1e-3) if frequency is None else np.array(frequency)
    own = {"words": words, "tokens": tokens, "frequency": frequency, "gradient": np.full((3, 3), 2.0)}
    return TokenStats(logprob, greedy=greedy, mean=mean, std=std, **own)


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


def test_lowercase_compares_the_text_with_its_lower_case():
    assert ATTACKS["lowercase"](stats([-1.0, -3.0]), stats([-5.0, -3.0, -4.0])) == pytest.approx(2.0)
    assert math.isnan(ATTACKS["lowercase"](stats([0.0]), stats([-1.0])))


def test_surp_means_the_unlikely_tokens_where_the_model_was_sure():
    seen = stats([-9.0, -4.0, -2.0, -1.0, -0.5], mean=[-3.0, -1.0, -1.5, -0.1, -0.1])
    assert ATTACKS["surp"](seen) == pytest.approx(-4.0)  # of the two lowest the second
    assert ATTACKS["surp"](seen, k=0.6) == pytest.approx(-3.0)
    assert ATTACKS["surp"](seen, entropy=3.5) == pytest.approx(-6.5)


def test_surp_of_a_text_without_such_a_token_does_not_jump():
    def at(entropy):
        return stats([-9.0, -4.0, -2.0], mean=[-3.0, -entropy, -0.1])

    just_below, above = (ATTACKS["surp"](at(entropy), k=0.7) for entropy in (1.999, 2.001))
    assert just_below == above == pytest.approx(-4.0)
    assert ATTACKS["surp"](at(2.001), k=0.7, as_published=True) == -100.0
    assert ATTACKS["surp"](stats([-3.0], mean=[-5.0])) == -3.0


def test_pac_sets_the_spread_of_the_variants_against_the_text_s():
    text = stats([-1.0, -2.0, -3.0, -4.0, -6.0, -8.0, -10.0])  # highest −1; lowest two −9: 8 apart
    changed = [stats([-1.0, -5.0]), stats([-2.0, -16.0])]  # 4 and 14 apart
    assert ATTACKS["pac"](text, *changed) == pytest.approx(9.0 - 8.0)
    assert ATTACKS["pac"](stats([-1.0]), stats([-5.0])) == 0.0


def test_a_variant_has_the_same_words_in_other_places_and_is_the_same_every_time():
    text = "one  two\nthree four five six seven eight nine ten "
    made = [swapped(number, 0.3, text) for number in range(50)]
    assert made == [swapped(number, 0.3, text) for number in range(50)]
    assert len(set(made)) > 10
    for variant in made:
        assert sorted(variant.split()) == sorted(text.split())
        assert re.findall(r"\s+", variant) == re.findall(r"\s+", text)
        moved = sum(a != b for a, b in zip(variant.split(), text.split(), strict=True))
        assert moved == 2, "three of ten words are one pair"
    assert sum(a != b for a, b in zip(swapped(1, 1.0, text).split(), text.split(), strict=True)) == 10
    assert [swapped(1, 0.3, short) for short in ("", "word", " ", "a b")] == ["", "word", " ", "b a"]


def test_pac_has_as_many_variants_as_asked_and_equal_ones_are_one_view():
    views = [ATTACKS["pac"].views_of({"variants": 3, "swapped": share}) for share in (0.3, 0.3, 0.5)]
    assert [view.name for view in views[0]] == ["text", "swapped_1_0.3", "swapped_2_0.3", "swapped_3_0.3"]
    assert views[0] == views[1]
    assert not set(views[0][1:]) & set(views[2][1:])


def test_ez_sets_gains_against_losses_where_the_target_errs():
    text, reference = stats([-1.0, -2.0, -1.0, -3.0], greedy=[1, 0, 0, 0]), stats([-9.0, -3.0, -1.5, -2.5])
    assert ATTACKS["ez"](text, reference) == pytest.approx(1.5 / 0.5, rel=1e-5)


def test_ez_ranks_a_text_that_loses_nowhere_first_and_as_published_last():
    gains, more = (stats([level, level]) for level in (-2.0, -1.0))
    reference, other = stats([-3.0, -3.0]), stats([-3.0, -0.5])
    ez = ATTACKS["ez"]
    assert ez(more, reference) > ez(gains, reference) > ez(more, other) > 0
    assert ez(gains, reference, as_published=True) == 0.0 < ez(more, other, as_published=True)


def test_ez_judges_a_text_without_an_error_by_all_its_tokens():
    certain = stats([-0.1, -0.2], greedy=[1, 1])
    assert ATTACKS["ez"](certain, stats([-3.1, -0.1])) == pytest.approx(3.0 / 0.1, rel=1e-4)


def test_wbc_counts_the_windows_in_which_the_reference_loses_more():
    text, reference = stats([-1.0, -1.0, -1.0, -1.0]), stats([-2.0, -1.5, -0.2, -0.2])
    # d = 1, 0.5, −0.8, −0.8: windows of two + − −, of three + −, of four −
    assert ATTACKS["wbc"](text, reference) == pytest.approx((1 / 3 + 1 / 2 + 0) / 3)
    assert ATTACKS["wbc"](text, text) == 0.0
    assert math.isnan(ATTACKS["wbc"](stats([-1.0]), stats([-2.0])))
    impossible = stats([-math.inf, -1.0, -1.0, -1.0]), stats([-2.0] * 4)
    assert ATTACKS["wbc"](*impossible) == pytest.approx((2 / 3 + 1 / 2 + 0) / 3), "windows without that token count"


@pytest.mark.parametrize("name", ["ez", "wbc"])
def test_other_tokens_are_refused_with_the_way_out(name):
    for tokens in ([1, 3], [1, 2, 3]):
        with pytest.raises(UnscorableError, match=r"have other tokens.*take a reference with the target's tokenizer"):
            ATTACKS[name](stats([-1.0, -1.0], tokens=[1, 2]), stats([-1.0] * len(tokens), tokens=tokens))


def test_dcpdd_weighs_each_token_once_by_its_rarity_up_to_the_cap():
    probabilities, frequencies = np.array([0.5, 0.001, 0.9, 0.002]), np.array([0.5, 0.1, 0.5, 0.01])
    seen = stats(np.log(probabilities), tokens=[7, 8, 7, 9], frequency=frequencies)
    rare = [0.001 * math.log(10), 0.002 * math.log(100)]

    assert ATTACKS["dcpdd"](seen) == pytest.approx((0.01 + sum(rare)) / 3)
    assert ATTACKS["dcpdd"](seen, cap=9.0) == pytest.approx((0.5 * math.log(2) + sum(rare)) / 3)
    assert ATTACKS["dcpdd"](stats([-math.inf])) == 0.0


def test_conrecall_sets_what_members_add_against_what_nonmembers_cost():
    text, after, after_members = stats([-2.0, -4.0, -9.0]), stats([-3.0, -5.0]), stats([-1.0, -2.0, -50.0])

    assert ATTACKS["conrecall"](text, after, after_members) == pytest.approx((-4 + 0.5 * 1.5) / -3)
    assert ATTACKS["conrecall"](text, after, after_members, gamma=0.0) == ATTACKS["recall"](text, after)


@pytest.mark.parametrize("name", SCORED)
def test_higher_means_member(name):
    """A member is likelier than a non-member under the target, and little is gained by shots in front of it."""
    words = "the same forty characters for both of it"
    reference, often = stats([-3.0] * 10), [0.9] * 10
    lower = stats([-3.5] * 10)
    member = {
        "text": stats([-1.0] * 10, words=words, frequency=often),
        "after_shots": stats([-0.99] * 10),
        "reference": reference,
    }
    other = {
        "text": stats([-3.0] * 10, words=words, frequency=often),
        "after_shots": stats([-2.0] * 10),
        "reference": reference,
    }
    even, uneven = stats([-2.0] * 10), stats([-1.0] * 5 + [-9.0] * 5)
    changed = dict.fromkeys((view.name for view in ATTACKS["neighbor"].views[1:]), stats([-3.0] * 10))
    changed |= {f"swapped_{n}_0.3": uneven for n in range(1, 6)}
    member, other = member | {"lower": lower} | changed, other | {"lower": lower} | changed | {"swapped_1_0.3": even}
    member["gradient"] = TokenStats(np.zeros(10, np.float32), gradient=np.ones((3, 3)))
    other["gradient"] = stats([-3.0] * 10)
    member["after_member_shots"], other["after_member_shots"] = stats([-1.0] * 10), stats([-2.9] * 10)
    options = defaults(ATTACKS[name].fields)

    assert ATTACKS[name].score(member, options) > ATTACKS[name].score(other, options)


@pytest.mark.parametrize("name", SCORED)
def test_an_impossible_token_is_no_error(name):
    """−inf is a legal log-probability: the text is as unlikely as can be, or the score is undefined."""
    seen = {view.name: stats([-1.0, -math.inf, -2.0], words="abc", tokens=[1, 2, 3]) for view in ATTACKS[name].views}
    if "reference" in seen:
        seen["reference"] = stats([-1.0, -2.0, -2.0], tokens=[1, 2, 3])
    expected = {"recall": math.nan, "lowercase": math.nan, "pac": math.nan, "neighbor": math.nan, "ez": 0.0, "wbc": 0.0}
    expected |= {"gradnorm": -2.0, "conrecall": math.nan, "dcpdd": 0.01 * 2 / 3}

    score = ATTACKS[name].score(seen, defaults(ATTACKS[name].fields))

    assert score == pytest.approx(expected.get(name, -math.inf), nan_ok=True)


def test_reading_what_was_not_asked_for_names_the_attack_and_what_it_lacks():
    bare = TokenStats(np.array([-1.0, -2.0], dtype=np.float32))

    assert bare.has == {"logprob"}
    with pytest.raises(MissingStatisticError, match="the attack 'minkpp' reads moments, which these"):
        ATTACKS["minkpp"](bare)
    with pytest.raises(MissingStatisticError, match="the attack 'zlib' reads words"):
        ATTACKS["zlib"](bare)


@pytest.mark.parametrize("name", SCORED)
def test_an_attack_reads_no_more_than_it_needs(name):
    """With the statistics that it names, and no others, it has a score."""
    attack = ATTACKS[name]
    given = {
        "greedy": {"greedy": np.zeros(3, dtype=bool)},
        "moments": {"mean": np.full(3, -2, dtype=np.float32), "std": np.ones(3, dtype=np.float32)},
        "words": {"words": "abc"},
        "tokens": {"tokens": np.arange(3)},
        "frequency": {"frequency": np.full(3, 0.1)},
        "gradient": {"gradient": np.ones((3, 3))},
        "logprob": {},
    }
    one = {key: value for need in attack.needs for key, value in given[need].items()}
    seen = TokenStats(np.array([-1.0, -3.0, -2.0], dtype=np.float32), **one)

    assert not math.isnan(attack(*[seen] * len(attack.views)))


def test_an_attack_says_what_shapes_it_and_whether_it_knows_labels():
    assert ATTACKS["recall"].shaped_by == ("as_published", "first_token", "shots")
    assert ATTACKS["ref"].shaped_by == ("first_token", "reference")
    assert ATTACKS["minkpp"].shaped_by == ("k", "first_token")
    assert [name for name, attack in ATTACKS.items() if attack.knows_labels] == [
        *("recall", "conrecall", "camia", "combined", "strongest")
    ]
    assert ATTACKS["dcpdd"].shaped_by == ("cap", "corpus", "first_token")
    assert [name for name, attack in ATTACKS.items() if attack.needs_reference] == ["ref", "ez", "wbc"]


def test_a_parameter_that_is_no_view_or_no_option_is_refused_where_it_is_defined():
    with pytest.raises(TypeError, match="the parameter 'shots' is no view; views: text, reference, after_shots, "):
        attack("wrong", "…", source="nobody")(lambda shots: 0.0)
    with pytest.raises(TypeError, match=r"give 'k' a default by option\(default, help\)"):
        attack("wrong", "…", source="nobody")(lambda text, *, k=0.2: 0.0)
    assert "wrong" not in ATTACKS


def test_camia_s_signals_are_those_of_plain_loops():
    rng = np.random.default_rng(0)
    losses, tokens = rng.exponential(2, 41), rng.integers(0, 20, 41)
    got = ATTACKS["camia"].features({"text": stats(-losses, tokens=tokens)}, {})

    line = lambda part: np.polyfit(np.arange(len(part)), part, 1)[0]  # noqa: E731
    expected = [value for n in (10, 20, 41) for value in (np.mean(losses[:n]), line(losses[:n]))]
    expected += [sum(loss < limit for loss in losses) / 41 for limit in (1, 2, 3)]
    expected.append(sum(losses[t] < np.mean(losses[:t]) for t in range(1, 41)) / 40)

    def phi(m):
        parts = [losses[i : i + m] for i in range(41 - m + 1)]
        alike = [[max(abs(a - b)) <= 0.2 * np.std(losses) for b in parts] for a in parts]
        return np.mean([np.log(np.mean(row)) for row in alike])

    expected.append(phi(2) - phi(3))
    for bins in (3, 4, 5):
        width = (max(losses) - min(losses)) / bins
        word, phrases = "", set()
        for loss in losses:
            word += str(min(int((loss - min(losses)) / width), bins - 1))
            if word not in phrases:
                phrases.add(word)
                word = ""
        expected.append(len(phrases) * math.log(42) / 41)
    expected.append(np.mean(losses) / (len(set(tokens.tolist())) / 41))
    expected.append(np.mean([losses[t] for t in range(41) if tokens[t] in tokens[:t]]))
    assert got == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("logprob", [[-1.0], [-1.0, -1.0], [-2.0] * 9, [-math.inf, 0.0, -1.0]])
def test_camia_has_as_many_finite_signals_of_any_text(logprob):
    got = ATTACKS["camia"].features({"text": stats(logprob, tokens=[5] * len(logprob))}, {})
    assert len(got) == 16
    assert np.isfinite(got).all()


def test_combined_takes_every_attack_on_its_views_and_leaves_out_what_the_run_does_not_give():
    names = [part.name for part in parts()]
    assert names == ["loss", "zlib", "mink", "minkpp", "ref", "recall", "surp", "ez", "wbc"]
    text, after, other = (
        stats([-1.0, -3.0], words="ab"),
        stats([-2.0, -2.5], words="ab"),
        stats([-2.0, -3.5], words="ab"),
    )
    everything = {"text": text, "after_shots": after, "reference": other}
    got = dict(zip(names, ATTACKS["combined"].features(everything, {}), strict=True))
    for name in names:
        seen = [everything[view.name] for view in ATTACKS[name].views]
        assert got[name] == ATTACKS[name](*seen)
    del everything["reference"]
    without = dict(zip(names, ATTACKS["combined"].features(everything, {}), strict=True))
    assert [name for name in names if math.isnan(without[name])] == ["ref", "ez", "wbc"]
    bare = {name: TokenStats(seen.logprob, words="ab") for name, seen in everything.items()}
    given = zip(names, ATTACKS["combined"].features(bare, {}), strict=True)
    assert [name for name, value in given if not math.isnan(value)] == ["loss", "zlib", "mink", "recall"]


def test_a_text_is_continued_from_the_first_half_of_its_words():
    assert halves("one  two\nthree four five") == ("one  two", "\nthree four five")
    assert halves("word") == ("word", "")
    (view,) = ATTACKS["samia"].views_of({"samples": 3, "zlib_weight": True})
    prompt = view.prompt("one two three four")
    assert (prompt.context, prompt.rest, prompt.samples) == ("one two", " three four", 3)
    assert prompt.gen_kwargs == {"until": [], "max_gen_toks": 32, "do_sample": True, "temperature": 1.0}
    (greedy,) = ATTACKS["extraction"].views
    assert greedy.prompt(" ".join(["word"] * 60)).gen_kwargs["max_gen_toks"] == 96
    assert greedy.prompt("a b").gen_kwargs["do_sample"] is False
    assert ATTACKS["samia"].views_of({"samples": 3}) == ATTACKS["samia"].views_of({"samples": 3})


def test_samia_counts_each_word_of_the_second_half_once_for_each_time_it_is_found():
    found = Generated(("the cat the cat", "nothing"), " the cat sat on the mat")
    weight = len(zlib.compress(b"the cat the cat"))
    assert ATTACKS["samia"](found, zlib_weight=False) == pytest.approx(3 / 6 / 2)
    assert ATTACKS["samia"](found) == pytest.approx(weight * 3 / 6 / 2)
    assert math.isnan(ATTACKS["samia"](Generated(("x",), "")))


def test_extraction_is_one_for_the_text_s_own_words_whatever_comes_after_them():
    assert ATTACKS["extraction"](Generated((" on the  mat. Then more",), "on the mat.")) == 1.0
    assert ATTACKS["extraction"](Generated(("on a mat.",), "on the mat.")) == pytest.approx(2 / 3)
    assert ATTACKS["extraction"](Generated(("",), "on the mat.")) == 0.0
    assert math.isnan(ATTACKS["extraction"](Generated(("x",), " ")))


def test_gradnorm_takes_the_norm_and_the_parameters_that_were_asked_for():
    seen = TokenStats(np.zeros(2, np.float32), gradient=np.arange(9).reshape(3, 3))
    assert ATTACKS["gradnorm"](seen) == -1.0
    assert ATTACKS["gradnorm"](seen, norm="inf", group="head") == -8.0
    assert ATTACKS["gradnorm"](seen, norm="1", group="embedding") == -3.0


def test_many_views_of_options_are_the_same_every_time_they_are_asked_for():
    options = {"neighbor_model": "model", "neighbors": 100}
    pac = [{"variants": 100, "swapped": share} for share in (0.1, 0.2)]
    first = [ATTACKS["neighbor"].views_of(options), *map(ATTACKS["pac"].views_of, pac)]
    assert [ATTACKS["neighbor"].views_of(options), *map(ATTACKS["pac"].views_of, pac)] == first


def test_petal_asks_for_the_words_at_places_spread_over_the_text():
    views = ATTACKS["petal"].views_of({"guesses": 2, "embedding_model": None})
    text = "a  b c\nd e"
    assert [(view.prompt(text).context, view.prompt(text).rest) for view in views] == [
        ("a  b", "c"),
        ("a  b c\nd", "e"),
    ]
    every = ATTACKS["petal"].views_of({"guesses": 4, "embedding_model": None})
    assert [view.prompt(text).rest for view in every] == ["b", "c", "d", "e"]
    assert every[0].prompt(text).gen_kwargs["max_gen_toks"] == 8


def test_petal_is_the_share_of_words_guessed_whatever_their_case_and_punctuation():
    said = [
        Generated((" the cat",), "The,"),
        Generated(("dog",), "cat"),
        Generated(("",), "--"),
        Generated(("--",), "--"),
    ]
    assert ATTACKS["petal"](*said, guesses=4) == pytest.approx(2 / 4)
    assert math.isnan(ATTACKS["petal"](Generated(("x",), ""), guesses=1))
