from __future__ import annotations

import numpy as np
import pytest

from midistill_tasks.compare.meter import metric_results
from midistill_tasks.metrics import METRICS


def test_privacy_meter_finds_our_own_figures(make_task, make_run, draw):
    labels, scores = draw(np.random.default_rng(0), 100)
    scores[:3] = np.nan
    task = make_task(labels, scores)
    result = metric_results(make_run("m", task))["mia_loss_made"]
    assert result.roc_auc == pytest.approx(METRICS["auroc"].value(task.items))
    assert result.tp / (result.tp + result.fn) == pytest.approx(METRICS["member_acc"].value(task.items))
    assert result.tp + result.fn + result.tn + result.fp == 97
    assert result.signal_values[0] == -result.predictions_proba[0]
