"""AUROC with DeLong's error and paired test, and TPR at a low FPR; their intervals are in `intervals`.

Throughout: `labels` [n], true = member; `scores` [n], higher = more likely a member, NaN rows are dropped, ±inf is
legal; `clusters` [n], the document of each text, or None where texts are independent. What a sample is too small for
is NaN, never an exception.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import ndtr
from scipy.stats import rankdata

from midistill_tasks.metrics.clusters import Counts, cluster_codes, freedom, resample, two_sample_covariance
from midistill_tasks.metrics.estimate import Z95
from midistill_tasks.metrics.scored import BoolArray, FloatArray, IntArray

TPR_BOUNDS = {"tpr_at_1pct_fpr": 0.01, "tpr_at_0.1pct_fpr": 0.001}
"""The figures with a bound on the FPR, and that bound."""


def auroc(labels: npt.ArrayLike, scores: npt.ArrayLike) -> float:
    """P(member's score > non-member's) + ½ P(equal), by midranks in O(n log n). NaN without both classes.

    >>> auroc([1, 1, 0, 0], [0.9, 0.4, 0.4, 0.1])  # of four pairs three are in order and one is a tie
    0.875
    """
    member, (values,), _ = complete(labels, [scores], None)
    return auroc_components(member, values)[0] if _has_both(member) else math.nan


def delong_stderr(labels: npt.ArrayLike, scores: npt.ArrayLike, clusters: Sequence[str] | None = None) -> float:
    """Standard error of `auroc`: DeLong et al., Biometrics 44:837 (1988); with clusters Obuchowski 1997.

    At complete separation (AUROC 0 or 1) DeLong's is 0, and the distance to Newcombe's limit stands in for it, see
    `newcombe_stderr`. A score that is the same for all texts has AUROC 0.5 in every resample, hence error 0.
    NaN where a class lies in fewer than two clusters.
    """
    return math.sqrt(max(float(auroc_covariance(labels, [scores], clusters).covariance[0, 0]), 0.0))


class Areas(NamedTuple):
    """AUROCs of S scores on the same texts.

    Attributes:
        values: [S]
        covariance: over texts, [S, S].
        freedom: how many degrees of freedom the variance of their mean has, see `clusters.freedom`.
    """

    values: FloatArray
    covariance: FloatArray
    freedom: float

    def times(self, variance: float) -> Areas:
        """The same with variances larger by this factor, as those of scores that were learnt; see `crossfit`."""
        return self._replace(covariance=self.covariance * variance)


def auroc_covariance(
    labels: npt.ArrayLike, scores: Sequence[npt.ArrayLike], clusters: Sequence[str] | None = None
) -> Areas:
    """AUROC of each score with DeLong's covariances; with clusters Obuchowski's. Errors as `delong_stderr`.

    A text that one of the scores lacks is dropped from all. All NaN without both classes.
    """
    found = _areas(labels, scores, clusters)
    return Areas(
        found.values,
        found.covariance + np.outer(found.separation, found.separation),
        found.freedom(np.eye(len(scores))),
    )


def auroc_differences(
    labels: npt.ArrayLike,
    before: Sequence[npt.ArrayLike],
    after: Sequence[npt.ArrayLike],
    clusters: Sequence[str] | None = None,
) -> Areas:
    """AUROC of each score in `after` minus that of its own in `before`, or of the only one there, with covariances.

    An AUROC of 0 or 1 has constant components, which would make a difference too sure: its `newcombe_stderr` is added
    in quadrature, among the scores of one side as if they erred alike.
    """
    found = _areas(labels, [*before, *after], clusters)
    first = np.eye(len(before)) if len(before) > 1 else np.ones((len(after), 1))
    signs = np.hstack([-first, np.eye(len(after))])
    of_texts = signs @ found.covariance @ signs.T
    for side in (first @ found.separation[: len(before)], found.separation[len(before) :]):
        of_texts += np.outer(side, side)
    return Areas(signs @ found.values, of_texts, found.freedom(signs))


class _Found(NamedTuple):
    """AUROCs [S], DeLong's covariances [S, S], the error of those that are 0 or 1 (else 0) [S], and what they are of.

    `residuals` [S, n] are the components' distances from the AUROC, of the texts that all scores have.
    """

    values: FloatArray
    covariance: FloatArray
    separation: FloatArray
    residuals: FloatArray
    member: BoolArray
    codes: IntArray

    def freedom(self, signs: FloatArray) -> float:
        """Of the variance of the mean of these sums of the AUROCs, [sums, S]."""
        both = _has_both(self.member)
        return freedom((signs @ self.residuals).mean(axis=0), self.member, self.codes) if both else math.nan


def _areas(labels: npt.ArrayLike, scores: Sequence[npt.ArrayLike], clusters: Sequence[str] | None) -> _Found:
    member, columns, codes = complete(labels, scores, clusters)
    count = len(scores)
    if not _has_both(member):
        unknown = np.full((count, count), math.nan)
        return _Found(unknown[0], unknown, np.zeros(count), np.zeros((count, len(member))), member, codes)
    found = [auroc_components(member, values) for values in columns]
    areas = np.array([area for area, _ in found], dtype=np.float64)
    residuals = np.stack([components - area for area, components in found])
    separated = np.isin(areas, (0.0, 1.0)).astype(np.float64)
    error = newcombe_stderr(*_clusters_by_class(member, codes)) if separated.any() else 0.0
    covariance = two_sample_covariance(residuals, member, codes)
    return _Found(areas, covariance, np.asarray(separated * error), residuals, member, codes)


def newcombe_stderr(n_members: int, n_nonmembers: int) -> float:
    """Standard error of an AUROC of exactly 1 (or 0): the distance to Newcombe's 95 % limit, over z.

    Newcombe, Statistics in Medicine 25:559 (2006), method 5: the limit θ solves 1 − θ = z·sqrt(V(θ)) with
    V(θ) = θ(1−θ)·(1 + N(1−θ)/(2−θ) + Nθ/(1+θ)) / (mn), N = (m+n)/2 − 1.
    """
    half = (n_members + n_nonmembers) / 2 - 1

    def excess(theta: float) -> float:
        spread = 1 + half * (1 - theta) / (2 - theta) + half * theta / (1 + theta)
        return 1 - theta - Z95**2 * theta * spread / (n_members * n_nonmembers)

    return (1 - float(brentq(excess, 0.0, 1.0))) / Z95


class PairedTest(NamedTuple):
    """AUROC of two scores on the same texts; `diff` = a − b with its standard error and two-sided p."""

    auroc_a: float
    auroc_b: float
    diff: float
    se: float
    p: float


def delong_paired(
    labels: npt.ArrayLike,
    scores_a: npt.ArrayLike,
    scores_b: npt.ArrayLike,
    clusters: Sequence[str] | None = None,
    variance: float = 1.0,
) -> PairedTest:
    """DeLong's test of two AUROCs on the same texts (row i of both scores is text i); with clusters Obuchowski 1997.

    A text that either score lacks is dropped from both. An AUROC of 0 or 1 has constant components, which would make
    the test too sure: its `newcombe_stderr` is added in quadrature. All NaN without both classes; `se` and `p` NaN
    where a class lies in fewer than two clusters. `variance` multiplies that of the difference.
    """
    values = _areas(labels, [scores_a, scores_b], clusters).values
    difference = auroc_differences(labels, [scores_b], [scores_a], clusters).times(variance)
    diff, se = float(difference.values[0]), math.sqrt(max(float(difference.covariance[0, 0]), 0.0))
    area_a, area_b = map(float, values)
    if se < 1e-12:  # the same ranking twice; or, in a handful of texts, components that differ by a constant
        return PairedTest(area_a, area_b, diff, 0.0, 1.0 if diff == 0 else math.nan)
    return PairedTest(area_a, area_b, diff, se, 2 * float(ndtr(-abs(diff) / se)))


def tpr_at_fpr(labels: npt.ArrayLike, scores: npt.ArrayLike, bound: float) -> float:
    """The largest TPR of a threshold whose empirical FPR is at most `bound`; no interpolation.

    Texts with equal scores fall on one side of a threshold together. NaN without members, or with fewer than 1/bound
    non-members, where the FPR can only be 0 or too large.
    """
    member, (values,), _ = complete(labels, [scores], None)
    others = np.sort(values[~member])[::-1]
    allowed = _allowed(bound, len(others))
    if allowed < 1 or not member.any():
        return math.nan
    if allowed == len(others):
        return 1.0
    # Every threshold that spares the non-member after the allowed ones; the lowest such lies just above that one.
    return float(np.mean(values[member] > others[allowed]))


def chance_tpr(n_nonmembers: int, bound: float) -> float:
    """What `tpr_at_fpr` is on average for scores that say nothing: (k+1)/(N+1), where k of N non-members are allowed.

    1.98 % for 1 % and N = 100: the threshold lies at the (k+1)-th highest non-member, not at the bound. NaN as there.
    """
    allowed = _allowed(bound, n_nonmembers)
    return (allowed + 1) / (n_nonmembers + 1) if allowed >= 1 else math.nan


def tpr_draws(
    labels: npt.ArrayLike,
    scores: npt.ArrayLike,
    bounds: Sequence[float],
    clusters: Sequence[str] | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> FloatArray:
    """`tpr_at_fpr` at each bound in each bootstrap draw, [draws, bounds]: what bands around a ROC curve are made of.

    Scores of several models for the same texts are drawn alike under one seed. Both classes must have a scored text.
    """
    member, (values,), codes = complete(labels, [scores], clusters)
    order = np.argsort(-values, kind="stable")
    member, values, codes = member[order], values[order], codes[order]
    rates = [
        np.stack([_weighted_tpr(weights, member, values, bound) for bound in bounds], axis=1)
        for weights in resample(member, codes, draws, np.random.default_rng(seed))
    ]
    return np.concatenate(rates)


def _weighted_tpr(weights: Counts, member: BoolArray, values: FloatArray, bound: float) -> FloatArray:
    """`tpr_at_fpr` of each draw, [draws], from how often it has each text, [draws, n], sorted by falling score."""
    false_positives = np.cumsum(weights[:, ~member], axis=1)
    allowed = np.floor(bound * false_positives[:, -1] + 1e-9)
    first_too_many = np.argmax(false_positives > allowed[:, None], axis=1)
    # How many members lie above that non-member: those before the first text of its score, since a tie is no win.
    block_start = np.searchsorted(-values, -values[~member], side="left")
    caught = np.searchsorted(np.flatnonzero(member), block_start)[first_too_many]
    true_positives = np.cumsum(np.pad(weights[:, member], ((0, 0), (1, 0))), axis=1)
    rate: FloatArray = np.take_along_axis(true_positives, caught[:, None], axis=1)[:, 0] / true_positives[:, -1]
    return rate


def _allowed(bound: float, n: int) -> int:
    """The largest k with k/n ≤ bound, compared as the quotient (in floats 0.29·100 < 29, but 29/100 is 0.29)."""
    k = min(math.floor(bound * n) + 1, n)
    while k > 0 and k / n > bound:
        k -= 1
    return k


def complete(
    labels: npt.ArrayLike, scores: Sequence[npt.ArrayLike], clusters: Sequence[str] | None
) -> tuple[BoolArray, list[FloatArray], IntArray]:
    """Labels, scores and cluster codes of the rows that every score has."""
    member = np.asarray(labels).astype(np.bool_)
    columns = [np.asarray(column, dtype=np.float64) for column in scores]
    keep = ~np.any([np.isnan(column) for column in columns], axis=0)
    kept = None if clusters is None else [name for name, k in zip(clusters, keep, strict=True) if k]
    return member[keep], [column[keep] for column in columns], cluster_codes(kept, int(keep.sum()))


def _has_both(member: BoolArray) -> bool:
    return bool(member.any() and not member.all())


def auroc_components(member: BoolArray, values: FloatArray) -> tuple[float, FloatArray]:
    """The AUROC and DeLong's structural components V10 (members) and V01 (non-members) in the rows' order, [n].

    The component of a text is the share of the other class that it is in order with, ties half. By midranks: Sun and
    Xu, IEEE Signal Processing Letters 21:1389 (2014).
    """
    ranks = rankdata(values)
    components = np.empty(len(values))
    components[member] = (ranks[member] - rankdata(values[member])) / (~member).sum()
    components[~member] = 1 - (ranks[~member] - rankdata(values[~member])) / member.sum()
    return float(components[member].mean()), components


def _clusters_by_class(member: BoolArray, codes: IntArray) -> tuple[int, int]:
    return len(np.unique(codes[member])), len(np.unique(codes[~member]))
