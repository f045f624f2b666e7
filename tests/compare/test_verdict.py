"""The word and the sentence follow from the figures, and say no more than they allow."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm, t

from midistill_tasks.compare.verdict import Reduction, StrongestReduction, alone, holm, strongest_on, verdict
from midistill_tasks.metrics.roc import auroc, auroc_components, delong_paired, delong_stderr


def tasks(make_task, seed: int, *shifts: float, n: int = 400, common: float = 0.5, **about):
    """Tasks on the same texts, whose scores share a part, members shifted by each of `shifts`; coins chose them."""
    about = {"independent_coins": True, **about}
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % 2)
    shared = rng.normal(size=n)
    noise = rng.normal(size=(len(shifts), n))
    return [
        make_task(labels, math.sqrt(common) * shared + math.sqrt(1 - common) * one + shift * labels, **about)
        for one, shift in zip(noise, shifts, strict=True)
    ]


@pytest.mark.parametrize(("first", "second"), [(1.5, 0.5), (1.5, -0.5), (-1.5, 0.5), (-1.5, -0.5)])
def test_a_leak_counts_alike_on_both_sides_of_one_half(make_task, first, second) -> None:
    teacher, student = tasks(make_task, 1, first, second)
    found = Reduction([teacher], [student]).at()
    areas = [auroc(task.labels, task.scores) for task in (teacher, student)]
    assert found.value == pytest.approx(abs(areas[0] - 0.5) - abs(areas[1] - 0.5))
    # The plain way: turn both so that members score higher, then DeLong's test of the difference.
    sign = [1 if area > 0.5 else -1 for area in areas]
    turned = delong_paired(teacher.labels, sign[0] * teacher.scores, sign[1] * student.scores)
    assert found.lower == pytest.approx(turned.diff - 1.971957 * turned.se, abs=1e-5)
    assert found.upper == pytest.approx(turned.diff + 1.971957 * turned.se, abs=1e-5)


def test_near_one_half_the_interval_is_cut_by_the_other_sign(make_task) -> None:
    """A student at 0.5 can leak on either side: the lower limit is that of the worse one."""
    teacher, student = tasks(make_task, 2, 1.0, 0.0)
    limits = []
    for sign in (1, -1):
        test = delong_paired(teacher.labels, teacher.scores, sign * student.scores)
        limits.append(test.diff - 1.971957 * test.se)
    assert Reduction([teacher], [student]).at().lower == pytest.approx(min(limits), abs=1e-5)


def test_from_three_seeds_on_the_interval_is_obuchowski_and_rocketts_with_hillis_degrees(make_task) -> None:
    """Step by step for three students, with DeLong's covariances from structural components written out."""
    teacher, *students = tasks(make_task, 3, 1.5, 0.5, 0.6, 0.8)
    member = teacher.labels

    def components(task):
        wins = (task.scores[member][:, None] > task.scores[~member][None]).astype(float)
        return wins.mean(), wins.mean(axis=1), wins.mean(axis=0)

    area, of_members, of_others = components(teacher)
    differences, members, others = [], [], []
    for one in students:
        value, own, rest = components(one)
        differences.append(area - value)
        members.append(of_members - own)
        others.append(of_others - rest)
    v = np.cov(members) / member.sum() + np.cov(others) / (~member).sum()
    ms, common = np.var(differences, ddof=1), (v.sum() - np.trace(v)) / 6
    assert common > 0
    freedom = (ms + 3 * common) ** 2 / (ms**2 / 2)
    half = max(t.isf(0.025, freedom) * math.sqrt(ms / 3 + common), t.isf(0.025, 199) * math.sqrt(v.sum()) / 3)
    mean = np.mean(differences)
    assert Reduction([teacher], students).at() == pytest.approx((mean, mean - half, mean + half), abs=1e-9)


def test_two_seeds_speak_of_these_two_alone(make_task) -> None:
    teacher, *students = family(make_task, 10, {"loss": 2.0}, {"loss": 0.2}, {"loss": 0.3})
    found = verdict(teacher, students, ("T", "S"))
    assert found.scope == "these two models, on texts like these"
    assert "two seeds say too little of others" in found.sentence
    assert "for other texts)" in found.sentence


@pytest.mark.parametrize(("first", "second"), [(1.0, 0.5), (1.0, -0.5), (0.5, 0.5), (0.0, 0.5)])
def test_the_interval_holds_the_true_reduction(make_task, first, second) -> None:
    true = abs(norm.cdf(first / math.sqrt(2)) - 0.5) - abs(norm.cdf(second / math.sqrt(2)) - 0.5)
    inside = 0
    for seed in range(100):
        teacher, student = tasks(make_task, seed, first, second, n=200)
        found = Reduction([teacher], [student]).at()
        inside += found.lower <= true <= found.upper
    assert inside >= 90  # 95 expected; below 90 has a chance of 1 in 100


def family(make_task, seed: int, first: dict[str, float], *others: dict[str, float], n: int = 400, **about):
    shifts = [shift for one in (first, *others) for shift in one.values()]
    made = iter(tasks(make_task, seed, *shifts, n=n, **about))
    return [{attack: next(made) for attack in one} for one in (first, *others)]


def test_the_strongest_attacks_are_compared_with_bounds_over_all_pairs(make_task) -> None:
    teacher, student = family(make_task, 5, {"loss": 1.5, "zlib": 0.5}, {"loss": 0.2, "zlib": 0.8})
    found = verdict(teacher, [student], ("T", "S"))
    assert (found.teacher_attack, found.student_attack) == ("loss", "zlib")
    pairs = {(a, b): Reduction([teacher[a]], [student[b]]).at(0.05 / 2) for a in teacher for b in student}
    lower = max(min(pairs[a, b].lower for b in student) for a in teacher)
    upper = min(max(pairs[a, b].upper for a in teacher) for b in student)
    leaks = [abs(auroc(task.labels, task.scores) - 0.5) for task in (teacher["loss"], student["zlib"])]
    assert found.reduction == pytest.approx((leaks[0] - leaks[1], lower, upper))


def test_a_student_that_leaks_less_under_every_attack_is_safer(make_task) -> None:
    teacher, student = family(make_task, 6, {"loss": 2.0, "zlib": 1.5}, {"loss": 0.2, "zlib": 0.1})
    found = verdict(teacher, [student], ("T", "S"))
    assert found.word == "safer"
    assert found.reduction.lower > 0
    assert found.sentence.startswith("Safer: S leaks less than T. The strongest attack on T is loss (AUROC 0.")


def test_a_safer_student_whose_members_are_still_found_is_said_to_leak(make_task) -> None:
    teacher, student = family(make_task, 6, {"loss": 3.0}, {"loss": 1.0})
    found = verdict(teacher, [student], ("T", "S"))
    assert found.word == "leaks less, still leaks"
    scores, labels = student["loss"].scores, student["loss"].labels
    others = np.sort(scores[~labels])[::-1]
    accused = len(others) // 100
    caught = int((scores[labels] > others[accused]).sum())
    assert found.sentence.startswith(
        "Leaks less, still leaks: S leaks less than T, but its members can still be told from non-members: at "
        f"{accused} false accusations in {len(others)} non-members, {caught} of {labels.sum()} members are found."
    )


SHIFTED = {"independent_coins": False, "n": 2000}


def test_without_coins_what_words_tell_as_well_is_no_leak(make_task) -> None:
    for blind, still in (((0.5, 0.02), True), ((0.64, 0.03), False)):
        teacher, student = family(make_task, 6, {"loss": 3.0}, {"loss": 0.6}, blind=blind, **SHIFTED)
        found = verdict(teacher, [student], ("T", "S"))
        assert found.word == ("leaks less, still leaks" if still else "safer")
        assert ("its members can still be told" in found.sentence) == still


@pytest.mark.parametrize("blind", [(0.67, 0.02), (0.6, 0.1), (math.nan, math.nan)])
def test_without_coins_an_attack_must_beat_the_words_also_where_these_are_not_above_chance(make_task, blind) -> None:
    teacher, student = family(make_task, 6, {"loss": 0.7}, {"loss": 0.0}, blind=blind, **SHIFTED)
    found = verdict(teacher, [student], ("T", "S"))
    assert found.word == "undecided"
    assert ("no attack does better, beyond the errors" in found.sentence) != math.isnan(blind[0])
    coins = family(make_task, 6, {"loss": 0.7}, {"loss": 0.0}, blind=blind, n=2000)
    assert verdict(coins[0], coins[1:], ("T", "S")).word == "safer", "one half is what chance gives"


@pytest.mark.parametrize("blind", [(0.53, math.nan), (0.73, math.nan)])
@pytest.mark.parametrize("shift", [0.0, 0.15])
def test_a_baseline_without_an_error_is_none(make_task, blind, shift) -> None:
    teacher, _ = family(make_task, 6, {"loss": shift}, {"loss": 0.0}, blind=blind, **SHIFTED)
    assert alone("T", [{"loss": result} for result in teacher.values()]).word == "undecided"


def test_an_attack_is_paired_with_the_words_where_the_samples_hold_their_ranks(make_task) -> None:
    rng = np.random.default_rng(8)
    labels = np.arange(200) % 2
    words = rng.normal(size=200) + 0.8 * labels
    area, ranks = auroc_components(labels == 1, words)
    for attack, paired in (
        (words + 0.3 * labels, True),
        (-words - 0.3 * labels, True),
        (rng.permutation(words), False),
    ):
        task = make_task(labels, attack, blind=(area, delong_stderr(labels, words)), independent_coins=False)
        known = replace(task, blind_ranks=tuple(ranks))
        found = [strongest_on("T", [{"loss": result}]).beats_words for result in (task, known)]
        assert found == [False, paired]


def test_of_a_teacher_that_shows_no_leak_it_is_said(make_task) -> None:
    teacher, student = family(make_task, 6, {"loss": 0.0, "zlib": 0.0}, {"loss": 0.0, "zlib": 0.0})
    sentence = verdict(teacher, [student], ("T", "S")).sentence
    assert sentence.startswith(
        "Undecided: no attack tells members of T from non-members beyond chance, and these figures do not settle"
    )


def test_one_attack_that_still_works_keeps_a_student_from_being_safer(make_task) -> None:
    teacher, student = family(make_task, 7, {"loss": 1.5, "zlib": 1.4}, {"loss": 0.0, "zlib": 1.4})
    assert verdict(teacher, [student], ("T", "S")).word != "safer"


def test_a_student_that_leaks_more_is_not_safer(make_task) -> None:
    teacher, student = family(make_task, 8, {"loss": 0.3}, {"loss": 1.5})
    found = verdict(teacher, [student], ("T", "S"))
    assert found.word == "not safer"
    assert found.sentence.startswith("Not safer: S leaks more than T.")


def test_no_difference_worth_naming_is_not_safer_only_where_the_texts_suffice(make_task) -> None:
    few = family(make_task, 9, {"loss": 1.0}, {"loss": 1.0})
    assert verdict(few[0], few[1:], ("T", "S")).word == "undecided"
    (many,) = family(make_task, 9, {"loss": 1.0}, n=4000)
    found = verdict(many, [many], ("T", "S"))
    assert found.word == "not safer"
    assert "if S leaks less than T, then by less than 0.02 in AUROC" in found.sentence


def test_one_student_says_nothing_of_others_trained_the_same_way(make_task) -> None:
    teacher, *students = family(make_task, 10, {"loss": 2.0}, *[{"loss": 0.2}] * 5)
    one = verdict(teacher, students[:1], ("T", "S"))
    assert one.scope == "this one model, on texts like these"
    assert "whether others trained in the same way are safer is undecided" in one.sentence
    five = verdict(teacher, students, ("T", "S"))
    assert five.word in ("safer", "leaks less, still leaks")
    assert five.scope == "students trained this way (5 seeds), on texts like these"
    assert "undecided" not in five.sentence


def test_students_that_scatter_leave_it_undecided(make_task) -> None:
    teacher, *students = family(make_task, 11, {"loss": 1.5}, {"loss": 0.0}, {"loss": 3.0}, {"loss": 1.0})
    assert verdict(teacher, students, ("T", "S")).word == "undecided"


def test_a_null_teacher_and_student_show_nothing(make_task) -> None:
    words = []
    for seed in range(40):
        attacks = {"loss": 0.0, "zlib": 0.0, "mink": 0.0}
        teacher, student = family(make_task, seed, attacks, attacks, n=200)
        words.append(verdict(teacher, [student], ("T", "S")).word)
    assert words.count("undecided") >= 38


def test_a_few_texts_and_equal_scores_say_nothing(make_task) -> None:
    three = make_task([1, 0] * 3, [5.0, 1.0] * 3, independent_coins=True)
    assert alone("M", [{"loss": three}])[0] == "too few texts to say"
    flat = make_task([1, 0] * 30, [1.0] * 60, independent_coins=True)
    word, _, sentence, _ = alone("M", [{"loss": flat}])
    assert word == "nothing was measured"
    assert "each attack gives all texts the same score" in sentence
    assert verdict({"loss": flat}, [{"loss": flat}], ("T", "S")).sentence.startswith("Undecided: all scores of T are")


def test_a_student_of_which_nothing_was_measured_is_not_safer(make_task, draw) -> None:
    labels, scores = draw(np.random.default_rng(0), 200, 1.0)
    leaking, flat = make_task(labels, scores), make_task(labels, 0.0 * scores)
    found = verdict({"loss": leaking}, [{"loss": flat}], ("T", "S"))
    assert (found.word, found.p) == ("undecided", 1.0)
    assert found.sentence.startswith("Undecided: all scores of S are equal, so nothing was measured")
    assert verdict({"loss": flat}, [{"loss": leaking}], ("T", "S")).word == "undecided"


def test_a_words_p_is_where_it_stops_to_hold(make_task) -> None:
    teacher, student = family(make_task, 12, {"loss": 1.0}, {"loss": 0.6})
    found = verdict(teacher, [student], ("T", "S"))
    assert found.word == "leaks less, still leaks"
    pair = StrongestReduction([teacher], [student])
    assert pair.at(found.p).lower > 0 > pair.at(found.p * 0.9).lower


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 1.0]) == pytest.approx([0.04, 0.09, 0.09, 1.0])


def test_no_arm_is_safer_than_a_control_where_nothing_leaks(make_task) -> None:
    """Five seeds that differ little from each other, but are attacked on one draw of texts: as real students are."""
    safer = 0
    for draw in range(40):
        rng = np.random.default_rng(draw)
        labels = rng.permutation(np.arange(200) % 2)
        arms = []
        for _ in range(2):
            kind = rng.normal(size=200)
            arms.append([{"loss": make_task(labels, kind + 0.1 * rng.normal(size=200))} for _ in range(5)])
        safer += StrongestReduction(*arms).at().lower > 0
    assert safer <= 4  # 1 in 40 expected at most; a t interval over seeds alone says it in a third of them
