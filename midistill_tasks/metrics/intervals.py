"""Intervals that cover what they say: of an AUROC near 1, of a TPR at a low FPR, of a mean over seeds.

A standard error says nothing of the shape around it. Of an AUROC of 0.99 value ± 1.96 errors covers 83 to 90 % (50 to
200 texts a side), and nearly all misses overstate the leak; `tests/campaigns/coverage.py` measures what these cover.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit
from scipy.stats import binom
from scipy.stats import t as student_t

from midistill_tasks.metrics.clusters import mean_variance
from midistill_tasks.metrics.estimate import Z95, Interval
from midistill_tasks.metrics.roc import Areas, auroc_covariance, complete
from midistill_tasks.metrics.scored import FloatArray, IntArray

NO_INTERVAL = (math.nan, math.nan)
FALSE_POSITIVES = 5
"""So many the bound on the FPR must allow on average for a TPR to have an interval."""
ENOUGH_DOCUMENTS = 30
"""From so many of a side on Student's t is within some 4 % of the normal quantile."""


def quantile(freedom: float, alpha: float = 0.05) -> float:
    """Of Student's t with so many degrees of freedom; NaN where there are none.

    A normal quantile takes the error for known: with fewer than 30 documents a side ±1.96 errors cover 78 to 92 %.
    """
    return float(student_t.isf(alpha / 2, freedom)) if freedom > 0 else math.nan


def auroc_interval(
    labels: npt.ArrayLike,
    scores: npt.ArrayLike,
    clusters: Sequence[str] | None = None,
    alpha: float = 0.05,
    variance: float = 1.0,
) -> Interval:
    """AUROC with limits from DeLong's error on the logit scale; NaN where it is not defined.

    expit(logit A ± q·se / (A(1−A))), with q of Student's t by `clusters.freedom`: they lie within 0 and 1, the longer
    side towards one half, and are wide where a few texts carry the error, as they do near 1. `variance` multiplies
    DeLong's.
    """
    return mean_auroc_interval(auroc_covariance(labels, [scores], clusters).times(variance), alpha)


def mean_auroc_interval(areas: Areas, alpha: float = 0.05) -> Interval:
    """Mean AUROC of one model, or of the seeds of an arm over the same texts, with limits on the logit scale.

    Where one of them is 0 or 1 the error has `newcombe_stderr`, the distance to a limit on the scale of the AUROC
    itself. On the logit scale of a mean next to 1 it would lead anywhere, so there the limits are value ± half.
    """
    value = float(areas.values.mean())
    half = mean_half_width(areas.values, areas.covariance, areas.freedom, alpha)
    if math.isnan(value) or math.isnan(half):
        return Interval(value, *NO_INTERVAL)
    if np.isin(areas.values, (0.0, 1.0)).any():
        return Interval(value, max(0.0, value - half), min(1.0, value + half))
    wide = half / (value * (1 - value))
    return Interval(value, float(expit(logit(value) - wide)), float(expit(logit(value) + wide)))


def mean_half_width(values: FloatArray, covariance: FloatArray, freedom: float, alpha: float = 0.05) -> float:
    """Half the width of the interval of a mean over S seeds [S], for other texts and, from three seeds, other seeds.

    Obuchowski and Rockette's model (Communications in Statistics 24:285, 1995) with Hillis' degrees of freedom
    (Statistics in Medicine 26:596, 2007), seeds as readers and texts as cases. With V the covariance [S, S] of the
    seeds' figures over texts, MS their variance and c = max(0, mean of V off its diagonal):

        Var = MS/S + c,    df = (MS + S·c)² / (MS² / (S − 1)),    half width = max(t(df)·√Var, q·√(ΣV)/S).

    q has the `freedom` of the variance over texts. Two seeds say too little of others (simulated: the interval covers
    less than it says): as with one, texts only.
    """
    seeds = len(values)
    over_texts = quantile(freedom, alpha) * math.sqrt(max(float(covariance.sum()), 0.0)) / seeds
    spread = float(np.var(values, ddof=1)) if seeds > 2 else 0.0
    if spread == 0 or math.isnan(over_texts):
        return over_texts
    common = max(0.0, float(covariance.sum() - np.trace(covariance)) / (seeds * (seeds - 1)))
    of_seeds = (spread + seeds * common) ** 2 / (spread**2 / (seeds - 1))
    return max(quantile(of_seeds, alpha) * math.sqrt(spread / seeds + common), over_texts)


def tpr_interval(
    labels: npt.ArrayLike, scores: npt.ArrayLike, bound: float, clusters: Sequence[str] | None = None
) -> tuple[float, float]:
    """95 % limits of the TPR at an FPR of `bound` exactly; NaN where the bound allows fewer than five non-members.

    Two things are uncertain: where the threshold of that FPR lies, which order statistics of the non-members' scores
    bracket without any assumption, and the share of members above it (Wilson). Their distances from the value add in
    quadrature on either side (Zou and Donner, Statistics in Medicine 27:1693, 2008). Several texts from one document
    count as fewer, by the ratio of their binomial variance to that between documents.
    """
    member, (values,), codes = complete(labels, [scores], clusters)
    falling, own = np.sort(values[~member])[::-1], values[member]
    documents = len(np.unique(codes[~member]))
    if documents * bound < FALSE_POSITIVES or len(np.unique(codes[member])) < 2:
        return NO_INTERVAL

    def caught(false_positives: float) -> FloatArray:
        """Which members score above the next non-member, [M]."""
        limit = float(falling[min(int(false_positives + 1e-9), len(falling) - 1)])
        return np.asarray(own > limit, dtype=np.float64)

    decided = caught(bound * len(falling))
    # So many non-members may truly lie above the threshold that is looked for.
    accused = (values[~member] >= falling[int(bound * len(falling))]).astype(np.float64)
    size = _effective(accused, codes[~member])
    few, many = binom.ppf([0.025, 0.975], round(size), bound) * len(falling) / size
    lower, upper = _wilson(float(decided.mean()), _effective(decided, codes[member]))
    below, above = (float(caught(count).mean() - decided.mean()) for count in (few, many))
    value = float(decided.mean())
    return max(0.0, value - math.hypot(value - lower, below)), min(1.0, value + math.hypot(upper - value, above))


def _effective(decided: FloatArray, codes: IntArray) -> float:
    """As many independent texts as would give a share the variance that it has between documents; at most [n]."""
    share = float(decided.mean())
    variance = mean_variance(decided - share, codes)
    documents = float(len(np.unique(codes)))
    return min(float(len(decided)), share * (1 - share) / variance) if variance > 0 else documents


def _wilson(share: float, n: float) -> tuple[float, float]:
    middle = (share + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 / (1 + Z95**2 / n) * math.sqrt(share * (1 - share) / n + Z95**2 / (4 * n * n))
    return middle - half, middle + half
