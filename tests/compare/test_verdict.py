"""The word and the sentence follow from the figures, and say no more than they allow."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm

from midistill_tasks.compare.verdict import leak_reduction, seed_interval, strongest_reduction, verdict
from midistill_tasks.metrics.estimate import Estimate, Interval
from midistill_tasks.metrics.roc import auroc, delong_paired

NO_SHIFT = Estimate(0.5, 0.03)


def tasks(make_task, seed: int, *shifts: float, n: int = 400, common: float = 0.5):
    """Tasks on the same texts, whose scores share a part, members shifted by each of `shifts`."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % 2)
    shared = rng.normal(size=n)
    noise = rng.normal(size=(len(shifts), n))
    return [
        make_task(labels, math.sqrt(common) * shared + math.sqrt(1 - common) * one + shift * labels)
        for one, shift in zip(noise, shifts, strict=True)
    ]


@pytest.mark.parametrize(("first", "second"), [(1.5, 0.5), (1.5, -0.5), (-1.5, 0.5), (-1.5, -0.5)])
def test_a_leak_counts_alike_on_both_sides_of_one_half(make_task, first, second) -> None:
    teacher, student = tasks(make_task, 1, first, second)
    found = leak_reduction([teacher], [student])
    areas = [auroc(task.labels, task.scores) for task in (teacher, student)]
    assert found.value == pytest.approx(abs(areas[0] - 0.5) - abs(areas[1] - 0.5))
    # The plain way: turn both so that members score higher, then DeLong's test of the difference.
    sign = [1 if area > 0.5 else -1 for area in areas]
    turned = delong_paired(teacher.labels, sign[0] * teacher.scores, sign[1] * student.scores)
    assert found.lower == pytest.approx(turned.diff - 1.959964 * turned.se, abs=1e-6)
    assert found.upper == pytest.approx(turned.diff + 1.959964 * turned.se, abs=1e-6)


def test_near_one_half_the_interval_is_cut_by_the_other_sign(make_task) -> None:
    """A student at 0.5 can leak on either side: the lower limit is that of the worse one."""
    teacher, student = tasks(make_task, 2, 1.0, 0.0)
    limits = []
    for sign in (1, -1):
        test = delong_paired(teacher.labels, teacher.scores, sign * student.scores)
        limits.append(test.diff - 1.959964 * test.se)
    assert leak_reduction([teacher], [student]).lower == pytest.approx(min(limits), abs=1e-6)


def test_seeds_add_their_t_interval_to_the_error_of_the_texts(make_task) -> None:
    teacher, *students = tasks(make_task, 3, 1.5, 0.5, 0.6, 0.8)
    tests = [delong_paired(teacher.labels, teacher.scores, one.scores) for one in students]
    mean = sum(one.diff for one in tests) / 3
    of_texts = 1.959964 * sum(one.se for one in tests) / 3
    of_seeds = 4.302653 * math.sqrt(sum((one.diff - mean) ** 2 for one in tests) / 2 / 3)
    half = math.sqrt(of_texts**2 + of_seeds**2)
    assert leak_reduction([teacher], students) == pytest.approx((mean, mean - half, mean + half), abs=1e-6)


@pytest.mark.parametrize(("first", "second"), [(1.0, 0.5), (1.0, -0.5), (0.5, 0.5), (0.0, 0.5)])
def test_the_interval_holds_the_true_reduction(make_task, first, second) -> None:
    true = abs(norm.cdf(first / math.sqrt(2)) - 0.5) - abs(norm.cdf(second / math.sqrt(2)) - 0.5)
    inside = 0
    for seed in range(100):
        teacher, student = tasks(make_task, seed, first, second, n=200)
        found = leak_reduction([teacher], [student])
        inside += found.lower <= true <= found.upper
    assert inside >= 90  # 95 expected; below 90 has a chance of 1 in 100


def family(make_task, seed: int, first: dict[str, float], *others: dict[str, float], n: int = 400):
    shifts = [shift for one in (first, *others) for shift in one.values()]
    made = iter(tasks(make_task, seed, *shifts, n=n))
    return [{attack: next(made) for attack in one} for one in (first, *others)]


def test_the_strongest_attacks_are_compared_with_bounds_over_all_pairs(make_task) -> None:
    teacher, student = family(make_task, 5, {"loss": 1.5, "zlib": 0.5}, {"loss": 0.2, "zlib": 0.8})
    found = verdict(teacher, [student], ("T", "S"), NO_SHIFT)
    assert (found.teacher_attack, found.student_attack) == ("loss", "zlib")
    pairs = {(a, b): leak_reduction([teacher[a]], [student[b]], 0.05 / 2) for a in teacher for b in student}
    lower = max(min(pairs[a, b].lower for b in student) for a in teacher)
    upper = min(max(pairs[a, b].upper for a in teacher) for b in student)
    leaks = [abs(auroc(task.labels, task.scores) - 0.5) for task in (teacher["loss"], student["zlib"])]
    assert found.reduction == pytest.approx((leaks[0] - leaks[1], lower, upper))


def test_a_student_that_leaks_less_under_every_attack_is_safer(make_task) -> None:
    teacher, student = family(make_task, 6, {"loss": 2.0, "zlib": 1.5}, {"loss": 0.2, "zlib": 0.1})
    found = verdict(teacher, [student], ("T", "S"), NO_SHIFT)
    assert found.word == "safer"
    assert found.reduction.lower > 0
    assert found.sentence.startswith("Safer: S leaks less than T. The strongest attack on T is loss (AUROC 0.")


def test_a_safer_student_whose_members_are_still_found_is_said_to_leak(make_task) -> None:
    teacher, student = family(make_task, 6, {"loss": 3.0}, {"loss": 1.0})
    found = verdict(teacher, [student], ("T", "S"), NO_SHIFT)
    assert found.word == "safer"
    assert found.sentence.startswith(
        "Safer: S leaks less than T, though its members can still be told from non-members."
    )


def test_what_words_tell_as_well_is_no_leak_that_a_safer_student_still_has(make_task) -> None:
    teacher, student = family(make_task, 6, {"loss": 3.0}, {"loss": 0.6})
    plain, shifted = (verdict(teacher, [student], ("T", "S"), blind) for blind in (NO_SHIFT, Estimate(0.62, 0.03)))
    assert (plain.word, shifted.word) == ("safer", "safer")
    assert "though its members can still be told" in plain.sentence
    assert "though its members can still be told" not in shifted.sentence


def test_where_no_attack_beats_the_words_beyond_the_errors_it_is_undecided_and_said_why(make_task) -> None:
    teacher, student = family(make_task, 6, {"loss": 0.7}, {"loss": 0.0}, n=2000)
    area = auroc(teacher["loss"].labels, teacher["loss"].scores)
    assert verdict(teacher, [student], ("T", "S"), NO_SHIFT).word == "safer"
    found = verdict(teacher, [student], ("T", "S"), Estimate(area - 0.02, 0.02))
    assert found.word == "undecided"
    assert "no attack does so better beyond the errors" in found.sentence


def test_a_teacher_at_the_level_of_words_beside_a_student_above_it_is_said_to_show_no_more(make_task) -> None:
    teacher, student = family(make_task, 6, {"loss": 0.7}, {"loss": 3.0}, n=2000)
    area = auroc(teacher["loss"].labels, teacher["loss"].scores)
    found = verdict(teacher, [student], ("T", "S"), Estimate(area, 0.02))
    assert found.word == "not safer"
    assert found.sentence.startswith("Not safer: S leaks more than T.")


def test_of_a_teacher_that_shows_no_leak_it_is_said(make_task) -> None:
    teacher, student = family(make_task, 6, {"loss": 0.0, "zlib": 0.0}, {"loss": 0.0, "zlib": 0.0})
    sentence = verdict(teacher, [student], ("T", "S"), NO_SHIFT).sentence
    assert sentence.startswith(
        "Undecided: no attack tells members of T from non-members beyond chance, and these figures do not settle"
    )


def test_one_attack_that_still_works_keeps_a_student_from_being_safer(make_task) -> None:
    teacher, student = family(make_task, 7, {"loss": 1.5, "zlib": 1.4}, {"loss": 0.0, "zlib": 1.4})
    assert verdict(teacher, [student], ("T", "S"), NO_SHIFT).word != "safer"


def test_a_student_that_leaks_more_is_not_safer(make_task) -> None:
    teacher, student = family(make_task, 8, {"loss": 0.3}, {"loss": 1.5})
    found = verdict(teacher, [student], ("T", "S"), NO_SHIFT)
    assert found.word == "not safer"
    assert found.sentence.startswith("Not safer: S leaks more than T.")


def test_no_difference_worth_naming_is_not_safer_only_where_the_texts_suffice(make_task) -> None:
    few = family(make_task, 9, {"loss": 1.0}, {"loss": 1.0})
    assert verdict(few[0], few[1:], ("T", "S"), NO_SHIFT).word == "undecided"
    (many,) = family(make_task, 9, {"loss": 1.0}, n=4000)
    found = verdict(many, [many], ("T", "S"), NO_SHIFT)
    assert found.word == "not safer"
    assert "if S leaks less than T, then by less than 0.02 in AUROC" in found.sentence


def test_one_student_says_nothing_of_others_trained_the_same_way(make_task) -> None:
    teacher, *students = family(make_task, 10, {"loss": 2.0}, *[{"loss": 0.2}] * 5)
    one = verdict(teacher, students[:1], ("T", "S"), NO_SHIFT)
    assert one.scope == "this one model, on texts like these"
    assert "whether others trained in the same way are safer is undecided" in one.sentence
    five = verdict(teacher, students, ("T", "S"), NO_SHIFT)
    assert five.word == "safer"
    assert five.scope == "students trained this way (5 seeds), on texts like these"
    assert "undecided" not in five.sentence


def test_students_that_scatter_leave_it_undecided(make_task) -> None:
    teacher, *students = family(make_task, 11, {"loss": 1.5}, {"loss": 0.0}, {"loss": 3.0})
    assert verdict(teacher, students, ("T", "S"), NO_SHIFT).word == "undecided"


def test_where_words_alone_do_as_well_the_split_cannot_say(make_task) -> None:
    teacher, student = family(make_task, 6, {"loss": 2.0}, {"loss": 0.2})
    found = verdict(teacher, [student], ("T", "S"), Estimate(0.97, 0.01))
    assert found.word == "undecided"
    assert "sees only words" in found.sentence
    assert "(AUROC 0.970)" in found.sentence
    assert verdict(teacher, [student], ("T", "S"), Estimate(0.97, 0.3)).word == "safer", "within its error of 0.5"
    assert verdict(teacher, [student], ("T", "S"), Estimate(math.nan, math.nan)).word == "safer"


def test_a_null_teacher_and_student_show_nothing(make_task) -> None:
    words = []
    for seed in range(40):
        attacks = {"loss": 0.0, "zlib": 0.0, "mink": 0.0}
        teacher, student = family(make_task, seed, attacks, attacks, n=200)
        words.append(verdict(teacher, [student], ("T", "S"), NO_SHIFT).word)
    assert words.count("undecided") >= 38


def test_one_student_has_no_seed_interval() -> None:
    found = seed_interval([0.7])
    assert found.value == 0.7
    assert math.isnan(found.lower)
    assert math.isnan(found.upper)
    assert seed_interval([0.5, 0.5]) == Interval(0.5, 0.5, 0.5)


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
        safer += strongest_reduction(*arms).lower > 0
    assert safer <= 4  # 1 in 40 expected at most; a t interval over seeds alone says it in a third of them
