"""RMIA, the relative attack: Zarifzadeh, Liu and Shokri 2024, "Low-Cost High-Power Membership Inference Attacks".

arXiv 2312.03262. Arrays as in `lira`. The paper's p(x | θ) is a classifier's probability of the right class; here it is
the geometric mean of a text's token probabilities, exp(mean log-probability), as in `lira.confidence`.
"""

from __future__ import annotations

import numpy as np

from midistill_tasks.metrics.scored import BoolArray, FloatArray


def scores(target: FloatArray, reference: FloatArray, population: BoolArray, gamma: float = 1.0) -> FloatArray:
    """Share of the population that each text x beats, [n]: Pr_z[(p(x|θ) / p(x)) / (p(z|θ) / p(z)) ≥ γ].

    A text of the population beats itself by one half at γ = 1, lest the highest of them tie with all texts above it;
    so the scores order the two sides as the ratios do. NaN for a text without a ratio, or with an empty population.

    Args:
        target: mean log-probabilities under the target, [n].
        reference: log p(x), [n]: see `online` and `offline`.
        population: which of the texts are the z: non-members of the target, [n].
        gamma: at least 1; by how much a text must beat another one.
    """
    ratio = target - reference
    known = ~np.isnan(ratio)
    others = np.sort(ratio[population & known])
    beaten = np.searchsorted(others, ratio - np.log(gamma), side="right").astype(np.float64)
    if gamma == 1.0:
        beaten[population & known] -= 0.5
    return np.where(known, beaten / len(others), np.nan) if len(others) else np.full(len(ratio), np.nan)


def online(shadows: FloatArray, inside: BoolArray) -> FloatArray:
    """log p(x), [n]: p(x) = ½(p_in + p_out), each the mean of p(x | θ') over the shadows that saw the text or did not.

    The mean over all shadows is the same where half of them saw each text. Here coins decide, and how many of them came
    up heads says nothing of the text. NaN where a side has no shadow.
    """
    reference: FloatArray = np.log((_mean(shadows, inside) + _mean(shadows, ~inside)) / 2)
    return reference


def offline(shadows: FloatArray, inside: BoolArray, a: float) -> FloatArray:
    """log p(x), [n], from shadows that did not see the text: p(x) = ½((1 + a)·p_out + 1 − a); NaN without one.

    What a shadow that saw it would say is taken to be a·p_out + 1 − a; see `fitted_a`.
    """
    reference: FloatArray = np.log(((1 + a) * _mean(shadows, ~inside) + 1 - a) / 2)
    return reference


def fitted_a(shadows: FloatArray, inside: BoolArray) -> float:
    """The a of `offline`, 0 to 1: least squares of p_in = a·p_out + 1 − a over the texts that have both.

    The paper finds one a a data set by attacking the attacker's own models; this is what its assumption says of them.
    1 where there is no such text: p(x) is then p_out.
    """
    short = [1 - _mean(shadows, side) for side in (inside, ~inside)]
    both = ~np.isnan(short[0]) & ~np.isnan(short[1])
    within, without = (side[both] for side in short)
    below = float(without @ without)
    return float(np.clip(within @ without / below, 0.0, 1.0)) if below else 1.0


def _mean(shadows: FloatArray, side: BoolArray) -> FloatArray:
    """Of exp(mean log-probability) over the shadows of a side, [n]; NaN where there is none."""
    kept = side & ~np.isnan(shadows)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean: FloatArray = np.where(kept, np.exp(shadows), 0.0).sum(axis=0) / kept.sum(axis=0)
    return mean
