"""LiRA, the likelihood-ratio attack: Carlini et al. 2022, "Membership Inference Attacks From First Principles".

arXiv 2112.03570. Throughout: `target` [n] are the target's mean log-probabilities of n texts, in nats per token;
`shadows` [S, n] those of S shadow models, NaN = not scored; `inside` [S, n] says which shadow was trained on which
text. What has too few shadows on a side is NaN, never an exception.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.stats import norm

from midistill_tasks.metrics.scored import BoolArray, FloatArray

PER_TEXT = 64
"""From so many shadows on each text has a variance of its own; with fewer all share one, as the paper advises."""


def confidence(logprob: FloatArray) -> FloatArray:
    """log(p / (1 − p)) with p = exp(mean log-probability), of any shape.

    The paper's statistic is that of a classifier's probability of the right class, scaled so that it is about normal
    over models. A language model has a probability for each token; p is their geometric mean, the choice made here.
    A text that is certain (p = 1) counts as p = 1 − 2e-16.
    """
    below_0 = np.minimum(logprob, -np.finfo(np.float64).eps)
    scaled: FloatArray = below_0 - np.log(-np.expm1(below_0))
    return scaled


class _Normal(NamedTuple):
    """Of each text over the shadows of one side, [n] each."""

    mean: FloatArray
    deviation: FloatArray


def online(target: FloatArray, shadows: FloatArray, inside: BoolArray) -> FloatArray:
    """log N(φ; μ_in, σ_in²) − log N(φ; μ_out, σ_out²) with φ the target's confidence, [n]; equation 3 of the paper."""
    value, over = confidence(target), confidence(shadows)
    within, without = (_normal(over, side) for side in (inside, ~inside))
    ratio: FloatArray = norm.logpdf(value, *within) - norm.logpdf(value, *without)
    return ratio


def offline(target: FloatArray, shadows: FloatArray, inside: BoolArray) -> FloatArray:
    """(φ − μ_out) / σ_out, [n]: the one-sided test by shadows that did not see the text; equation 4 of the paper.

    That equation's 1 − Pr[N(μ_out, σ_out²) > φ] is the normal distribution function of this, which orders texts alike
    but is 1 in floats from 8.3 on.
    """
    mean, deviation = _normal(confidence(shadows), ~inside)
    scores: FloatArray = (confidence(target) - mean) / deviation
    return scores


def _normal(values: FloatArray, side: BoolArray) -> _Normal:
    """Means, and unbiased deviations from them: of each text from `PER_TEXT` shadows on, else of all texts together.

    With one for all, a text needs one shadow on the side; with its own, two.
    """
    kept = side & ~np.isnan(values)
    counts = kept.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(kept, values, 0.0).sum(axis=0) / counts
        squares = np.where(kept, values - mean, 0.0) ** 2
        if len(values) >= PER_TEXT:
            variance = squares.sum(axis=0) / np.where(counts > 1, counts - 1, np.nan)
        else:
            pooled = squares.sum() / np.maximum(counts - 1, 0).sum()
            variance = np.full(len(mean), pooled)
    return _Normal(mean, np.sqrt(np.where(variance > 0, variance, np.nan)))
