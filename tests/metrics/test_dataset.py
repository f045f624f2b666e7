"""Dataset inference: a p value that is uniform where nothing was trained on, by document, on texts not learnt from."""

from __future__ import annotations

import math

import numpy as np
import pytest
from made_scores import make_items
from scipy.stats import kstest, ttest_ind

from midistill_tasks.metrics.crossfit import Learnt, crossfit_scores
from midistill_tasks.metrics.dataset import dataset_p_value
from midistill_tasks.metrics.thresholds import folds

LABELS = np.arange(120) % 2


def test_it_is_welch_s_test_on_the_second_half_in_the_direction_of_the_first():
    for sign in (1, -1):
        scores = sign * (np.random.default_rng(0).normal(size=120) + 0.5 * LABELS)
        items = make_items(LABELS, scores)
        half = folds(items) == 1
        found = ttest_ind(*((sign * scores)[half & (side == LABELS)] for side in (1, 0)), equal_var=False)
        assert dataset_p_value(items) == pytest.approx(found.pvalue / 2)
        assert dataset_p_value(items) < 0.05


@pytest.mark.parametrize("kind", ["plain", "learnt", "documents"])
def test_it_is_uniform_where_the_members_were_not_trained_on(kind):
    found = []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        names = [f"{seed}-{number if kind != 'documents' else number // 8}" for number in range(120)]
        labels = LABELS if kind != "documents" else np.arange(120) // 8 % 2
        noise = rng.normal(size=15)[np.arange(120) // 8] * 2 if kind == "documents" else 0
        items = make_items(labels, rng.normal(size=120) + noise, names)
        if kind == "learnt":
            scores = crossfit_scores(rng.normal(size=(120, 8)), items)
            items = [item._replace(score=Learnt(score)) for item, score in zip(items, scores, strict=True)]
        found.append(dataset_p_value(items))
    assert kstest(found, "uniform").pvalue > 0.01
    assert np.mean(np.array(found) < 0.05) < 0.09


def test_what_it_cannot_be_taken_of_is_nan():
    assert math.isnan(dataset_p_value(make_items([1, 1, 0], [1.0, 2.0, 3.0])))
    assert math.isnan(dataset_p_value(make_items(LABELS, np.zeros(120))))
    assert math.isnan(dataset_p_value(make_items(LABELS, np.full(120, math.nan))))
