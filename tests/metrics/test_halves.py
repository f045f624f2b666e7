"""The row to publish: chosen on one half, judged on the other, so that the choice costs nothing in truth."""

from __future__ import annotations

import math

import numpy as np
import pytest

from midistill_tasks.metrics import METRICS, Scored
from midistill_tasks.metrics.crossfit import VARIANCE, Learnt, pick_strongest
from midistill_tasks.metrics.halves import HALVES, halves
from midistill_tasks.metrics.roc import auroc
from midistill_tasks.metrics.thresholds import folds


def texts(n: int, seed: int = 0) -> list[Scored]:
    rng = np.random.default_rng(seed)
    return [Scored(int(i % 2), math.nan, f"{rng.integers(1 << 60):x}", f"c{rng.integers(1 << 60)}") for i in range(n)]


def judged(items: list[Scored], scores: np.ndarray) -> list[Scored]:
    return [item._replace(score=Learnt(score)) for item, score in zip(items, scores.tolist(), strict=True)]


def table_of(items: list[Scored], shifts: list[float], seed: int = 1) -> np.ndarray:
    """Scores of attacks whose members lie so far above, all with one part in common, [A, n]."""
    rng = np.random.default_rng(seed)
    labels = np.array([item.label for item in items])
    common = rng.normal(size=len(items))
    return np.array([shift * labels + common + rng.normal(size=len(items)) for shift in shifts])


def test_by_hand_each_half_is_judged_by_what_is_strongest_on_the_other():
    items = texts(400)
    labels, fold = np.array([item.label for item in items]), folds(items)
    table = table_of(items, [0.0, -1.0, 0.4])
    scores, picked = pick_strongest(table, ["a", "b", "c"], items)
    areas = []
    for half in (0, 1):
        own, other = fold == half, fold != half
        leaks = [abs(auroc(labels[other], one[other]) - 0.5) for one in table]
        best = int(np.argmax(leaks))
        assert picked[half] == "abc"[best] == "b"
        areas.append(auroc(labels[own], -table[best][own]))  # its members lie below: the sign is chosen as well
    assert HALVES["auroc"].value(judged(items, scores)) == pytest.approx(np.mean(areas), abs=1e-12)


def test_the_error_is_that_of_two_halves_with_the_choice_in_it():
    items = texts(400)
    scores, _ = pick_strongest(table_of(items, [0.5, 0.2]), ["a", "b"], items)
    rows = judged(items, scores)
    errors = [METRICS["auroc"].stderr([r._replace(score=float(r.score)) for r in half]) for half in halves(rows)]
    assert HALVES["auroc"].stderr(rows) == pytest.approx(math.hypot(*errors) / 2 * math.sqrt(VARIANCE))


@pytest.mark.parametrize("shift", [0.0, 0.3, 1.5])
def test_value_plus_minus_its_error_covers_what_the_strongest_attack_reaches_on_new_texts(shift):
    """The figure of the attack that leaks most, and of none where none leaks: not the best of five looked at."""
    truth = table_of(many := texts(40_000, seed=9), [0.0, 0.0, shift, 0.0, shift / 2])
    labels = np.array([item.label for item in many])
    expected = max(auroc(labels, one) for one in truth) if shift else 0.5
    covered, values = 0, []
    for seed in range(200):
        items = texts(200, seed=seed + 100)
        table = table_of(items, [0.0, 0.0, shift, 0.0, shift / 2], seed=seed)
        rows = judged(items, pick_strongest(table, list("abcde"), items)[0])
        value, error = HALVES["auroc"].value(rows), HALVES["auroc"].stderr(rows)
        values.append(value)
        covered += abs(value - expected) <= 1.96 * error
    assert covered >= 186  # 93 %
    assert np.mean(values) <= expected + 0.01  # never above the truth


def test_an_attack_without_scores_takes_no_part_and_one_that_lacks_few_costs_these_texts():
    items = texts(200)
    table = table_of(items, [0.1, 2.0, 2.5])
    table[2, 50:] = math.nan
    table[1, :5] = math.nan
    scores, picked = pick_strongest(table, ["weak", "strong", "rare"], items)
    assert picked == ("strong", "strong")
    assert np.flatnonzero(np.isnan(scores)).tolist() == list(range(5))


def test_where_a_half_has_one_class_nothing_is_chosen():
    items = [Scored(int(i == 0), math.nan, str(i), str(i)) for i in range(20)]
    scores, picked = pick_strongest(np.zeros((1, 20)), ["a"], items)
    assert picked == ()
    assert np.isnan(scores).all()


def test_a_rate_of_halves_needs_a_hundred_non_members_in_each():
    small, large = texts(300), texts(420)
    for items, known in ((small, False), (large, True)):
        rows = judged(items, table_of(items, [1.0])[0])
        assert math.isnan(HALVES["tpr_at_1pct_fpr"].value(rows)) != known
