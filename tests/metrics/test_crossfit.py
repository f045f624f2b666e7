"""Scores that are learnt from labels: never from those of the texts that they judge."""

from __future__ import annotations

import math

import numpy as np
import pytest
from made_scores import make_items

from midistill_tasks.metrics import crossfit
from midistill_tasks.metrics.crossfit import crossfit_scores
from midistill_tasks.metrics.roc import auroc, delong_stderr
from midistill_tasks.metrics.thresholds import folds


def drawn(seed: int, n: int = 200, shift: float = 0.0, columns: int = 5):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    features = rng.normal(size=(n, columns)) + shift * labels[:, None]
    return labels, features, make_items(labels, np.zeros(n))


def test_a_score_is_a_rank_by_a_regression_on_the_other_fold():
    from sklearn.linear_model import LogisticRegression

    labels, features, items = drawn(0, shift=0.5)
    fold = folds(items)
    got = crossfit_scores(features, items)
    for number in (0, 1):
        own, other = fold == number, fold != number
        middle, spread = features[other].mean(axis=0), features[other].std(axis=0)
        model = LogisticRegression().fit((features[other] - middle) / spread, labels[other])
        order = np.argsort(np.argsort(model.decision_function((features[own] - middle) / spread)))
        assert got[own] == pytest.approx((order + 0.5) / own.sum())


def test_no_label_of_a_text_s_own_fold_moves_its_score(monkeypatch):
    labels, features, items = drawn(1)
    fold = np.arange(len(items)) // 2 % 2
    monkeypatch.setattr(crossfit, "folds", lambda items: fold)
    before = crossfit_scores(features, items)
    turned = np.where(fold == 0, 1 - labels, labels)
    after = crossfit_scores(features, make_items(turned, np.zeros(len(items))))
    assert (before == after)[fold == 0].all()
    assert (before != after)[fold == 1].mean() > 0.9


def test_what_there_is_to_learn_is_learnt_and_infinite_features_are_the_farthest():
    labels, features, items = drawn(2, shift=1.0)
    plain = crossfit_scores(features, items)
    assert auroc(labels, plain) > 0.85
    features[labels == 1, 0] = math.inf
    assert auroc(labels, crossfit_scores(features, items)) > 0.85
    assert np.array_equal(
        crossfit_scores(np.c_[features, np.full(len(items), math.nan)], items), crossfit_scores(features, items)
    )


def test_a_text_without_a_feature_has_no_score_and_few_texts_have_none_at_all():
    _, features, items = drawn(3)
    features[7, 2] = math.nan
    got = crossfit_scores(features, items)
    assert np.flatnonzero(np.isnan(got)).tolist() == [7]
    assert np.isnan(crossfit_scores(features[:30], items[:30])).all()
    assert np.isnan(crossfit_scores(np.full((200, 3), math.nan), items)).all()


def test_where_there_is_nothing_to_learn_the_auroc_is_one_half_within_twice_delong_s_variance():
    areas, errors = [], []
    for seed in range(60):
        labels, features, items = drawn(seed, n=120)
        scores = crossfit_scores(features, items)
        areas.append(auroc(labels, scores))
        errors.append(delong_stderr(labels, scores))
    assert np.mean(areas) == pytest.approx(0.5, abs=0.03)
    assert 1.15 < np.std(areas) / np.mean(errors) < math.sqrt(crossfit.VARIANCE) * 1.1


def test_the_variant_is_chosen_with_its_direction_on_the_other_fold():
    labels, features, items = drawn(4, n=400, columns=3)
    scores = features.T.copy()
    scores[1] -= 2.0 * labels  # the one that tells, the other way round
    fold = folds(items)
    got = crossfit.crossfit_choice(scores, items)
    for number in (0, 1):
        order = np.argsort(np.argsort(-scores[1][fold == number]))
        assert got[fold == number] == pytest.approx((order + 0.5) / (fold == number).sum())


def test_the_choice_among_variants_that_tell_nothing_finds_nothing():
    areas, errors = [], []
    for seed in range(100):
        labels, features, items = drawn(seed, n=120, columns=8)
        areas.append(auroc(labels, chosen := crossfit.crossfit_choice(features.T, items)))
        errors.append(delong_stderr(labels, chosen))
    assert np.mean(areas) == pytest.approx(0.5, abs=0.02)
    assert np.std(areas) / np.mean(errors) < math.sqrt(crossfit.VARIANCE)


def test_a_variant_without_a_score_takes_the_text_out():
    _, features, items = drawn(5)
    scores = features.T.copy()
    scores[2, 9] = math.nan
    assert np.flatnonzero(np.isnan(crossfit.crossfit_choice(scores, items))).tolist() == [9]
