"""ROC curves over the students of an arm, with bands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from midistill_tasks.metrics.roc import auroc, tpr_at_fpr, tpr_draws
from midistill_tasks.metrics.scored import FloatArray
from midistill_tasks.results.run import AttackResult

POINTS = 60
"""Rates a curve is drawn at, spaced by their logarithm."""
DRAWS = 200


@dataclass(frozen=True)
class Curve:
    """One model, or the mean of an arm's students; all arrays [points].

    Attributes:
        name: of the model or arm.
        fpr: rising, from 1/N to 1.
        tpr: the largest TPR at an FPR of at most that.
        lower, upper: 95 % bootstrap limits, point by point: other texts, not other seeds.
        auroc: of the scores (the mean over students).
    """

    name: str
    fpr: FloatArray
    tpr: FloatArray
    lower: FloatArray
    upper: FloatArray
    auroc: float


def roc_curve(name: str, results: Sequence[AttackResult]) -> Curve:
    """The curve of one attack; with several students (of one arm, over the same texts) the mean of their TPRs."""
    nonmembers = min(int((~result.labels & ~np.isnan(result.scores)).sum()) for result in results)
    counts = np.unique(np.geomspace(1, max(nonmembers - 1, 1), POINTS).round().astype(int))
    bounds = [float(count) / nonmembers for count in counts]
    values = [[tpr_at_fpr(result.labels, result.scores, bound) for bound in bounds] for result in results]
    drawn = [tpr_draws(result.labels, result.scores, bounds, result.clusters, DRAWS) for result in results]
    lower, upper = np.quantile(np.mean(drawn, axis=0), [0.025, 0.975], axis=0)
    return Curve(
        name=name,
        fpr=np.append(bounds, 1.0),
        tpr=np.append(np.mean(values, axis=0), 1.0),
        lower=np.append(lower, 1.0),
        upper=np.append(upper, 1.0),
        auroc=float(np.mean([auroc(result.labels, result.scores) for result in results])),
    )
