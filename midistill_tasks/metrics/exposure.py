"""Exposure of canaries: Carlini et al., "The Secret Sharer", USENIX Security 2019 (arXiv 1802.08232), section 4."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from midistill_tasks.metrics.clusters import cluster_codes, two_sample_variance
from midistill_tasks.metrics.estimate import Estimate
from midistill_tasks.metrics.roc import complete
from midistill_tasks.metrics.scored import FloatArray, Scored, columns


def exposure(items: Sequence[Scored]) -> Estimate:
    """Mean over the members (inserted canaries) of log2 |R| − log2 rank, in bits, with its standard error.

    The candidates R of a canary are itself and the H non-members (held-out canaries), so |R| = H + 1; its rank among
    them is 1 + the number of non-members with a higher score + half of those with the same. From 0 to log2(H + 1),
    where it is the first of all; scores that say nothing give log2 e = 1.44 on average for large H.

    The error: over members the variance of their exposures; over non-members the jackknife, each left out once, which
    lifts the members below it by one rank. Both are added, and texts of one document are taken together. NaN where
    every member has the same exposure, as at the upper end: with so many non-members no more can be seen.

    NaN without scored texts of both classes.
    """
    labels, scores, clusters = columns(items)
    member, (values,), _ = complete(labels, [scores], clusters)
    inserted, held_out = values[member], np.sort(values[~member])
    if not len(inserted) or not len(held_out):
        return Estimate(math.nan, math.nan)
    ranks = _ranks(inserted, held_out)
    exposures = math.log2(len(held_out) + 1) - np.log2(ranks)
    value = float(exposures.mean())
    if len(held_out) < 2 or np.ptp(ranks) == 0:
        return Estimate(value, math.nan)
    residuals = np.empty(len(values))
    residuals[member] = exposures - value
    residuals[~member] = _jackknifed(values[~member], inserted, ranks)
    kept = [cluster for cluster, score in zip(clusters, scores, strict=True) if not math.isnan(score)]
    return Estimate(value, math.sqrt(two_sample_variance(residuals, member, cluster_codes(kept, len(values)))))


def _ranks(inserted: FloatArray, held_out: FloatArray) -> FloatArray:
    """Of each inserted one among itself and the held-out ones, which are sorted; midranks where scores are equal."""
    below, not_above = (np.searchsorted(held_out, inserted, side=side) for side in ("left", "right"))
    ranks: FloatArray = 1.0 + len(held_out) - (below + not_above) / 2
    return ranks


def _jackknifed(held_out: FloatArray, inserted: FloatArray, ranks: FloatArray) -> FloatArray:
    """What each held-out one's absence changes, times H − 1, around its mean: pseudo-values, [H]."""
    order = np.argsort(inserted, kind="stable")
    below, not_above = (np.searchsorted(inserted[order], held_out, side=side) for side in ("left", "right"))
    whole, half = (
        np.concatenate([[0.0], np.cumsum(np.log2(ranks[order] / np.maximum(ranks[order] - step, 1.0)))])
        for step in (1.0, 0.5)
    )
    lifted = whole[below] + half[not_above] - half[below]
    change = -lifted / len(inserted) * (len(held_out) - 1)
    centred: FloatArray = change - change.mean()
    return centred
