from __future__ import annotations

import logging
import math

import numpy as np
import pytest
from made_scores import draw, make_items

from midistill_tasks.errors import InputError
from midistill_tasks.metrics import METRICS, Scored, as_scored, roc, thresholds
from midistill_tasks.metrics.dataset import dataset_p_value
from midistill_tasks.metrics.epsilon import epsilon_lower
from midistill_tasks.metrics.exposure import exposure


def test_the_table_has_its_order_and_directions():
    assert {name: metric.higher_is_better for name, metric in METRICS.items()} == {
        "auroc": None,
        "tpr_at_1pct_fpr": False,
        "tpr_at_0.1pct_fpr": False,
        "balanced_acc": False,
        "member_acc": False,
        "nonmember_acc": None,
        "balanced_acc_oracle": False,
        "verbatim_members": False,
        "verbatim_nonmembers": None,
        "dataset_p_value": None,
        "epsilon_lower": False,
        "exposure": False,
    }


def test_each_metric_is_the_figure_it_says():
    labels, scores = draw(np.random.default_rng(0), 2200)
    items = make_items(labels, scores)
    fair = thresholds.crossfit_accuracies(items)
    oracle = thresholds.accuracies(items, thresholds.oracle_decisions(items))
    assert {name: metric.value(items) for name, metric in METRICS.items()} == {
        "auroc": roc.auroc(labels, scores),
        "tpr_at_1pct_fpr": roc.tpr_at_fpr(labels, scores, 0.01),
        "tpr_at_0.1pct_fpr": roc.tpr_at_fpr(labels, scores, 0.001),
        "balanced_acc": fair.balanced.value,
        "member_acc": fair.member.value,
        "nonmember_acc": fair.nonmember.value,
        "balanced_acc_oracle": oracle.balanced.value,
        "verbatim_members": np.mean(scores[labels == 1] >= 1),
        "verbatim_nonmembers": np.mean(scores[labels == 0] >= 1),
        "dataset_p_value": dataset_p_value(items),
        "epsilon_lower": epsilon_lower(items),
        "exposure": exposure(items).value,
    }
    assert METRICS["balanced_acc_oracle"].stderr is None
    assert METRICS["member_acc"].stderr(items) == fair.member.stderr
    assert METRICS["auroc"].stderr(items) == pytest.approx(roc.delong_stderr(labels, scores))
    assert METRICS["tpr_at_1pct_fpr"].stderr(items) > 0


@pytest.mark.parametrize("items", [[], make_items([1], [0.3]), make_items([1, 0], [math.nan, math.nan])])
def test_undefined_is_nan_with_one_warning_and_never_raises(items, caplog):
    of_both_sides = [metric for name, metric in METRICS.items() if not name.startswith("verbatim")]
    with caplog.at_level(logging.WARNING):
        for metric in of_both_sides:
            assert math.isnan(metric.value(items))
            assert math.isnan(metric.value(items))
            assert metric.stderr is None or metric.stderr(items) == "N/A"
    assert len(caplog.records) == len(of_both_sides)


def test_the_warning_says_what_is_missing(caplog):
    METRICS["tpr_at_1pct_fpr"].value(make_items([1, 0, 0, 0], [0.1, 0.2, 0.3, math.nan]))
    assert "at least 100 scored non-members, not 1 members and 2 non-members" in caplog.text


def test_rows_come_as_scored_as_json_or_as_pairs():
    assert as_scored([(1, 0.5), [0, None, "b"], [True, 2, "c", "doc"]])[0] == Scored(1, 0.5, "0", "0")
    rows = as_scored([(1, 0.5), [0, None, "b"], [True, 2, "c", "doc"]])
    assert (rows[1].id, rows[1].cluster) == ("b", "b")
    assert math.isnan(rows[1].score)
    assert rows[2] == Scored(1, 2.0, "c", "doc")


@pytest.mark.parametrize(
    "row", [3, (1,), (1, "x"), (2, 0.5), (1, 2, 3, 4, 5), (math.nan, 1.0), (math.inf, 1.0), (0.5, 1.0)]
)
def test_other_rows_are_refused_with_their_position(row):
    with pytest.raises(InputError, match="item 1"):
        as_scored([(1, 0.5), row])
