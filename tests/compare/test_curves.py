"""ROC curves with bands."""

from __future__ import annotations

import numpy as np
import pytest

from midistill_tasks.compare.curves import roc_curve
from midistill_tasks.metrics.roc import tpr_at_fpr


def test_a_curve_is_the_tpr_at_each_fpr_and_its_band_contains_it(make_task, draw):
    labels, scores = draw(np.random.default_rng(0), 200)
    curve = roc_curve("a", [make_task(labels, scores)])
    assert curve.fpr[0] == pytest.approx(1 / 100)
    assert (curve.fpr[-1], curve.tpr[-1]) == (1, 1)
    for rate, value in zip(curve.fpr[:-1], curve.tpr[:-1], strict=True):
        assert value == tpr_at_fpr(labels, scores, float(rate))
    assert (curve.lower <= curve.tpr).mean() > 0.9
    assert (curve.tpr <= curve.upper).mean() > 0.9
    assert np.mean(curve.upper - curve.lower) > 0.05


def test_the_curve_of_several_students_is_their_mean(make_task, draw):
    labels, scores = draw(np.random.default_rng(0), 100)
    tasks = [make_task(labels, scores), make_task(labels, -scores)]
    mean = roc_curve("arm", tasks)
    first, second = (roc_curve("one", [task]) for task in tasks)
    assert mean.tpr == pytest.approx((first.tpr + second.tpr) / 2)
    assert mean.auroc == pytest.approx(0.5)
