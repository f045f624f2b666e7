from __future__ import annotations

import math

import numpy as np
import pytest
from made_scores import draw, make_items

from midistill_tasks.errors import InputError
from midistill_tasks.metrics import redrawn, thresholds
from midistill_tasks.metrics.clusters import resample


def balanced(labels, called):
    tpr = sum(1 for label, c in zip(labels, called, strict=True) if label and c) / sum(labels)
    tnr = sum(1 for label, c in zip(labels, called, strict=True) if not label and not c) / (len(labels) - sum(labels))
    return (tpr + tnr) / 2


@pytest.mark.parametrize("seed", range(8))
def test_best_threshold_is_the_best_of_all_and_the_highest_of_these(seed):
    labels, scores = draw(np.random.default_rng(seed), 31, shift=0.7, digits=0 if seed % 2 else 2)
    threshold = thresholds.best_threshold(labels.astype(bool), scores)
    accuracy = {t: balanced(labels, scores > t) for t in [-math.inf, *scores, math.inf]}
    best = max(accuracy.values())
    assert balanced(labels, scores > threshold) == pytest.approx(best, abs=1e-12)
    highest = max(t for t, a in accuracy.items() if a > best - 1e-12)
    assert (scores > threshold).tolist() == (scores > highest).tolist()


def test_fewest_are_called_members_where_thresholds_are_equally_good():
    assert thresholds.best_threshold(np.array([True, False, True, False]), np.array([4.0, 3.0, 2.0, 1.0])) == 3.5


def test_threshold_lies_midway_and_nobody_is_called_where_nothing_beats_chance():
    assert thresholds.best_threshold(np.array([True, False]), np.array([3.0, 1.0])) == 2.0
    assert thresholds.best_threshold(np.array([True, False]), np.array([1.0, 3.0])) == math.inf
    assert thresholds.best_threshold(np.array([True, False]), np.array([1.0, 1.0])) == math.inf
    tiny = np.nextafter(1.0, 2.0)
    assert thresholds.best_threshold(np.array([True, False]), np.array([tiny, 1.0])) == 1.0
    assert thresholds.best_threshold(np.array([True, False]), np.array([0.0, -math.inf])) == -math.inf
    assert thresholds.best_threshold(np.array([True, False]), np.array([math.inf, -math.inf])) == -math.inf


def test_every_decision_comes_from_a_threshold_chosen_without_its_text():
    rng = np.random.default_rng(0)
    labels, scores = draw(rng, 60)
    scores[np.flatnonzero(labels == 1)[5:20]] = math.nan
    items = make_items(labels, scores)
    fold = thresholds.folds(items)
    decisions = thresholds.crossfit_decisions(items)
    for judged in (0, 1):
        other = (fold != judged) & ~np.isnan(scores)
        threshold = thresholds.best_threshold(labels[other].astype(bool), scores[other])
        assert (decisions[fold == judged] == (scores[fold == judged] > threshold)).all()
    for i in (0, 17, 59):  # what a text's own score says decides nothing else in its fold
        moved = [item._replace(score=1e9) if j == i else item for j, item in enumerate(items)]
        same_fold = [j for j in range(60) if fold[j] == fold[i] and j != i]
        assert (thresholds.crossfit_decisions(moved)[same_fold] == decisions[same_fold]).all()


def test_folds_are_stratified_whole_documents_and_the_same_in_any_order_and_for_any_attack():
    labels, scores = draw(np.random.default_rng(1), 80)
    items = make_items(labels, scores, [f"doc{i // 2}-{label}" for i, label in enumerate(labels)])
    fold = dict(zip([item.id for item in items], thresholds.folds(items), strict=True))
    shuffled = [items[i]._replace(score=math.nan) for i in np.random.default_rng(2).permutation(80)]
    assert fold == dict(zip([item.id for item in shuffled], thresholds.folds(shuffled), strict=True))
    by_document = {item.cluster: set() for item in items}
    for item in items:
        by_document[item.cluster].add(fold[item.id])
    assert all(len(folds) == 1 for folds in by_document.values())
    single = make_items(labels, scores)
    for label in (0, 1):
        in_first = sum(f == 0 for f, item in zip(thresholds.folds(single), single, strict=True) if item.label == label)
        assert in_first == 20


def test_decisions_do_not_depend_on_the_order():
    labels, scores = draw(np.random.default_rng(3), 50)
    items = make_items(labels, scores)
    decisions = dict(zip([i.id for i in items], thresholds.crossfit_decisions(items), strict=True))
    backwards = items[::-1]
    assert decisions == dict(zip([i.id for i in backwards], thresholds.crossfit_decisions(backwards), strict=True))


def test_unscored_texts_are_no_members_and_do_not_count():
    labels, scores = draw(np.random.default_rng(4), 50)
    scores[:4] = math.nan
    items = make_items(labels, scores)
    decisions = thresholds.crossfit_decisions(items)
    assert not decisions[:4].any()
    judged = thresholds.accuracies(items, decisions)
    assert judged.balanced.value == pytest.approx(balanced(labels[4:], decisions[4:]))


def test_separation_is_judged_perfect_and_keeps_wilsons_error():
    labels = np.arange(100) % 2
    items = make_items(labels, labels * 2.0 + np.linspace(0, 0.5, 100))
    judged = thresholds.crossfit_accuracies(items)
    assert [part.value for part in judged] == [1.0, 1.0, 1.0]
    z = 1.959963984540054
    assert 1 - z * judged.member.stderr == pytest.approx(50 / (50 + z * z))  # Wilson's lower limit at 50 of 50
    assert judged.balanced.stderr == pytest.approx(judged.member.stderr / math.sqrt(2))


def test_accuracies_have_the_binomial_error():
    labels, scores = draw(np.random.default_rng(5), 200)
    items = make_items(labels, scores)
    decisions = thresholds.oracle_decisions(items)
    judged = thresholds.accuracies(items, decisions)
    tpr, tnr = float(decisions[labels == 1].mean()), float((~decisions[labels == 0]).mean())
    assert judged.balanced.value == pytest.approx((tpr + tnr) / 2)
    assert judged.member.stderr == pytest.approx(math.sqrt(tpr * (1 - tpr) / 99))
    assert judged.nonmember.stderr == pytest.approx(math.sqrt(tnr * (1 - tnr) / 99))
    both = math.hypot(judged.member.stderr, judged.nonmember.stderr) / 2
    assert judged.balanced.stderr == pytest.approx(both)


def test_copies_of_a_text_in_its_cluster_do_not_shrink_the_errors():
    labels, scores = draw(np.random.default_rng(6), 100)
    items = make_items(labels, scores)
    copies = [item._replace(id=f"{item.id}/{copy}") for item in items for copy in range(3)]
    decisions = thresholds.crossfit_decisions(items)
    once, thrice = thresholds.accuracies(items, decisions), thresholds.accuracies(copies, np.repeat(decisions, 3))
    for a, b in zip(once, thrice, strict=True):
        assert b == pytest.approx(a)


def test_cross_fitting_is_fair_where_nothing_leaks_and_the_oracle_is_not():
    rng = np.random.default_rng(7)
    fair, oracle, covered = [], [], 0
    for _ in range(200):
        labels, scores = draw(rng, 60, shift=0.0, digits=8)
        items = make_items(labels, scores, [str(i) for i in rng.integers(1 << 40, size=60)])
        estimate = thresholds.crossfit_accuracies(items, draws=50).balanced
        fair.append(estimate.value)
        covered += abs(estimate.value - 0.5) < 1.96 * estimate.stderr
        oracle.append(thresholds.accuracies(items, thresholds.oracle_decisions(items)).balanced.value)
    assert abs(np.mean(fair) - 0.5) < 3 * np.std(fair) / math.sqrt(200)
    assert covered / 200 > 0.92
    assert np.mean(oracle) > 0.57


def test_member_and_nonmember_errors_allow_for_the_choice_of_the_threshold():
    rng = np.random.default_rng(8)
    judged, binomial = [], []
    for _ in range(100):
        labels, scores = draw(rng, 200, shift=0.4, digits=8)
        items = make_items(labels, scores)
        judged.append(thresholds.crossfit_accuracies(items, draws=50))
        binomial.append(thresholds.accuracies(items, thresholds.crossfit_decisions(items)))
    for side in (1, 2):
        values = np.array([one[side].value for one in judged])
        assert values.tolist() == [one[side].value for one in binomial]
        off = abs(values - values.mean())
        assert (off < 1.96 * np.array([one[side].stderr for one in judged])).mean() > 0.85
        assert (off < 1.96 * np.array([one[side].stderr for one in binomial])).mean() < 0.7
    for one, other in zip(judged, binomial, strict=True):
        assert one.balanced.value == other.balanced.value
        assert one.balanced.stderr >= other.balanced.stderr


def test_near_separation_the_errors_stay_those_of_a_share():
    for seed in range(20):
        labels, scores = draw(np.random.default_rng(seed), 100, shift=4.0, digits=8)
        items = make_items(labels, scores)
        plain = thresholds.accuracies(items, thresholds.crossfit_decisions(items))
        judged = thresholds.crossfit_accuracies(items)
        assert all(one.stderr >= other.stderr > 0.005 for one, other in zip(judged, plain, strict=True))


def test_a_draw_of_the_bootstrap_is_both_halves_drawn_again_and_judged_across():
    labels, scores = draw(np.random.default_rng(9), 40)
    items = make_items(labels, scores)
    fold, names = thresholds.folds(items), sorted(item.cluster for item in items)
    found = list(thresholds._redrawn(items, scores[None], 3))
    rows = [[item for item, own in zip(items, fold, strict=True) if own == half] for half in (0, 1)]
    drawn = [list(weights(rows[half], names, half, 3)) for half in (0, 1)]
    for number, (_, member, nonmember) in enumerate(found):
        right = {1: [], 0: []}
        for half in (0, 1):
            other = drawn[1 - half][number]
            threshold = thresholds.best_threshold(
                np.array([i.label == 1 for i in other]), np.array([i.score for i in other])
            )
            for item in drawn[half][number]:
                right[item.label].append((item.score > threshold) == (item.label == 1))
        assert (member, nonmember) == pytest.approx((np.mean(right[1]), np.mean(right[0])))


@pytest.mark.parametrize("seed", range(6))
def test_the_rules_of_many_samples_at_once_are_those_of_each(seed):
    """Also among ties, infinite scores, and where nothing beats chance."""
    generator = np.random.default_rng(seed)
    labels = generator.random(30) < 0.5
    scores = generator.normal(size=30).round(seed % 3) + (seed % 2) * labels
    scores[:2] = (math.inf, -math.inf)
    (times,) = resample(labels, np.arange(30), 100, generator)
    for drawn, (sign, threshold) in zip(times, redrawn._best_rules(labels, scores, times), strict=True):
        texts = np.repeat(np.arange(30), drawn)
        assert thresholds.best_rule(labels[texts], scores[texts]) == (sign, threshold)


def weights(rows, names, seed, draws):
    """The half's texts, each as often as it is drawn; `resample` itself is tested beside the ROC."""
    ordered = sorted(rows, key=lambda item: names.index(item.cluster))
    member = np.array([item.label == 1 for item in ordered])
    for portion in resample(member, np.arange(len(ordered)), draws, np.random.default_rng(seed)):
        for counts in portion:
            yield [item for item, times in zip(ordered, counts, strict=True) for _ in range(times)]


def test_the_order_of_the_texts_does_not_change_the_errors():
    labels, scores = draw(np.random.default_rng(10), 60)
    items = make_items(labels, scores)
    items[0] = items[0]._replace(score=math.nan)
    forwards, backwards = thresholds.crossfit_accuracies(items), thresholds.crossfit_accuracies(items[::-1])
    for one, other in zip(forwards, backwards, strict=True):
        assert one == pytest.approx(other)


def test_a_half_without_a_class_is_refused_with_the_counts():
    items = make_items([1, 0, 0, 0, 0, 0], [1.0, 0.1, 0.2, 0.3, 0.4, 0.5])
    with pytest.raises(InputError, match="both classes, in each half"):
        thresholds.crossfit_decisions(items)
    with pytest.raises(InputError, match="there are 2 members and 0 non-members"):
        thresholds.oracle_decisions(make_items([1, 1], [0.1, 0.2]))


def test_threshold_at_fpr_is_privacy_meters_quantile_in_scores():
    population = np.random.default_rng(8).normal(size=999)
    threshold = thresholds.threshold_at_fpr(population, 0.01)
    assert threshold == pytest.approx(np.quantile(population, 0.99))
    assert np.mean(population > threshold) == pytest.approx(0.01, abs=1 / 999)
    unscored = [*population, math.nan]
    assert thresholds.threshold_at_fpr(unscored, 0.01) == threshold


def test_threshold_at_fpr_needs_a_population_and_a_rate():
    assert math.isnan(thresholds.threshold_at_fpr(np.arange(50.0), 0.01))
    with pytest.raises(InputError, match="between 0 and 1"):
        thresholds.threshold_at_fpr(np.arange(50.0), 1.0)


def test_an_attack_of_the_wrong_sign_leaks_as_much_as_one_of_the_right_sign():
    """The sign is chosen with the threshold, on the other half."""
    labels, scores = draw(np.random.default_rng(10), 400, shift=1.0, digits=8)
    right, wrong = (thresholds.crossfit_decisions(make_items(labels, sign * scores)) for sign in (1, -1))
    assert (right == wrong).all()
    assert balanced(labels, right) > 0.6
    assert thresholds.best_rule(labels.astype(bool), -scores).sign == -1
