"""Standard errors over texts, some of which may come from one document (a cluster)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from midistill_tasks.metrics.estimate import Z95
from midistill_tasks.metrics.scored import BoolArray, FloatArray, IntArray

Counts = npt.NDArray[np.int16]


def cluster_codes(clusters: Sequence[str] | None, n: int) -> IntArray:
    """Integer codes 0…C−1, shape [n]; every text its own cluster where `clusters` is None."""
    if clusters is None:
        return np.arange(n, dtype=np.int64)
    return np.unique(np.asarray(clusters), return_inverse=True)[1].astype(np.int64)


def mean_variance(residuals: FloatArray, codes: IntArray) -> float:
    """Variance of a mean, from the deviations [n] of its terms, summed within clusters.

    C/(C−1) · Σ_c (Σ_{i∈c} r_i / n)²; with one text a cluster this is the sample variance over n. NaN for fewer than
    two clusters.
    """
    held = len(np.unique(codes))
    if held < 2:
        return math.nan
    sums = np.bincount(codes, weights=residuals) / len(residuals)
    return float(held / (held - 1) * (sums @ sums))


def two_sample_variance(residuals: FloatArray, labels: BoolArray, codes: IntArray) -> float:
    """Variance of (mean over members + mean over non-members), from deviations of each from its class's mean, [n].

    NaN where a class lies in fewer than two clusters; see `two_sample_covariance`.
    """
    return float(np.maximum(two_sample_covariance(residuals[None], labels, codes)[0, 0], 0.0))


def two_sample_covariance(residuals: FloatArray, labels: BoolArray, codes: IntArray) -> FloatArray:
    """Covariances [S, S] of S figures that are each (mean over members + mean over non-members), from [S, n].

    Obuchowski, Biometrics 53:567 (1997): S10/M + S01/N + 2·S11/(MN). A cluster may hold members only, non-members only
    or both; only the last kind adds covariance. NaN where a class lies in fewer than two clusters.
    """
    total = int(codes.max()) + 1
    sums, held = [], []
    for side in (labels, ~labels):
        rows = [np.bincount(codes[side], weights=row[side], minlength=total) for row in residuals]
        sums.append(np.stack(rows) / max(int(side.sum()), 1))
        held.append(len(np.unique(codes[side])))
    if min(held) < 2:
        return np.full((len(residuals), len(residuals)), math.nan)
    within = sum(count / (count - 1) * (side @ side.T) for side, count in zip(sums, held, strict=True))
    across = total / (total - 1) * (sums[0] @ sums[1].T)
    covariance: FloatArray = within + across + across.T
    return covariance


def freedom(residuals: FloatArray, labels: BoolArray, codes: IntArray) -> float:
    """Degrees of freedom of `two_sample_covariance` of one figure, from its deviations [n]: Satterthwaite's 2V²/Var V.

    Var V is that of a sample variance with the clusters' own fourth moment, Var s² = (m₄ − s⁴(C−3)/(C−1))/C: where a
    few texts carry the error, as at an AUROC near 1, it is known as badly as from so few. Within 2 and C − 1 for the C
    clusters of the smaller class; NaN where that has fewer than two.
    """
    variance, doubt, held = 0.0, 0.0, []
    for side in (labels, ~labels):
        sums = np.bincount(np.unique(codes[side], return_inverse=True)[1], weights=residuals[side])
        count = len(sums)
        held.append(count)
        if count < 2:
            return math.nan
        sums *= count / side.sum()
        squared = float(sums @ sums) / (count - 1)
        variance += squared / count
        doubt += max(0.0, float(np.mean(sums**4)) - squared**2 * (count - 3) / (count - 1)) / count**3
    most = min(held) - 1.0
    return min(most, max(2.0, 2 * variance**2 / doubt)) if doubt > 0 else most


def boundary_stderr(n: int) -> float:
    """Standard error of a share that came out as exactly 0 or 1 in n independent cases, where the usual one is 0.

    The distance to Wilson's 95 % limit, z²/(n+z²), over z, so that value ± z·stderr ends at that limit.
    """
    return Z95 / (n + Z95**2)


def share_stderr(variance: float, value: float, n_clusters: int) -> float:
    """The root of a share's variance; `boundary_stderr` where the share is 0 or 1 and its variance therefore 0."""
    return boundary_stderr(n_clusters) if variance == 0 and value in (0.0, 1.0) else math.sqrt(variance)


def resample(member: BoolArray, codes: IntArray, draws: int, rng: np.random.Generator) -> Iterator[Counts]:
    """How often each text is drawn, [draws, n] of int16, in portions that fit in memory.

    Clusters are drawn within their kind (members only, non-members only, both), so that every draw has both classes;
    for independent texts this is the bootstrap stratified by class.
    """
    n_clusters = int(codes.max()) + 1
    kind = np.zeros(n_clusters, dtype=np.int64)
    kind[codes[member]] += 1
    kind[codes[~member]] += 2
    portion = max(1, 4_000_000 // len(codes))
    for start in range(0, draws, portion):
        count = min(portion, draws - start)
        drawn = np.zeros((count, n_clusters), dtype=np.int16)  # a count beyond its range has no chance
        for stratum in np.unique(kind):
            inside = np.flatnonzero(kind == stratum)
            for row in range(count):
                picks = rng.integers(len(inside), size=len(inside))
                drawn[row, inside] = np.bincount(picks, minlength=len(inside))
        yield drawn[:, codes]
