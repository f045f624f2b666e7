"""Dataset inference: was this data set trained on, as a whole? What can be tested where single texts cannot."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import ttest_ind

from midistill_tasks.metrics.crossfit import Learnt
from midistill_tasks.metrics.scored import BoolArray, FloatArray, Scored, columns
from midistill_tasks.metrics.thresholds import folds


def dataset_p_value(items: Sequence[Scored]) -> float:
    """One-sided p of Welch's t-test that members score higher (Maini et al. 2024, "LLM dataset inference").

    What tells the sides apart is learnt on the first half of the texts and tested on the second, no text twice: of a
    plain attack the direction, of a score that was learnt from labels (`combined`: which attacks count, and how) the
    regression on the other half, which has its direction. Several texts of a document count as their mean.

    Uniform where the model never saw the members and both sides are of one distribution. A split whose sides differ
    otherwise (see the blind baseline) has small values for any model. NaN with fewer than two documents of a side in
    the tested half.
    """
    labels, scores, clusters = columns(items)
    fold, known = folds(items), ~np.isnan(scores)
    learn, test = known & (fold == 0), known & (fold == 1)
    if not all((labels[half] == side).any() for half in (learn, test) for side in (True, False)):
        return math.nan
    learnt = any(isinstance(item.score, Learnt) for item in items)
    above = scores[learn & labels].mean() >= scores[learn & ~labels].mean()
    directed = scores if learnt or above else -scores
    members, others = (_means(directed, test & (labels == side), clusters) for side in (True, False))
    if min(len(members), len(others)) < 2 or np.ptp(np.r_[members, others]) == 0:
        return math.nan
    return float(ttest_ind(members, others, equal_var=False, alternative="greater").pvalue)


def _means(scores: FloatArray, chosen: BoolArray, clusters: Sequence[str]) -> FloatArray:
    """Of each document."""
    of: dict[str, list[float]] = {}
    for score, name in zip(scores[chosen], np.asarray(clusters)[chosen], strict=True):
        of.setdefault(str(name), []).append(float(score))
    return np.array([np.mean(values) for values in of.values()])
