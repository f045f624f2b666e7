"""Decisions (member or not) from a threshold, and their accuracies.

A text is called a member where its score is strictly above the threshold.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from midistill_tasks.errors import InputError
from midistill_tasks.metrics.clusters import cluster_codes, mean_variance, resample, share_stderr, two_sample_variance
from midistill_tasks.metrics.estimate import Estimate
from midistill_tasks.metrics.scored import BoolArray, FloatArray, IntArray, Scored, columns


class Accuracies(NamedTuple):
    """Share of right decisions: mean of both classes, among members (TPR), among non-members (1 − FPR)."""

    balanced: Estimate
    member: Estimate
    nonmember: Estimate


def best_threshold(labels: BoolArray, scores: FloatArray) -> float:
    """The threshold of highest balanced accuracy on the given texts, [n] each, both classes present, no NaN.

    Among equally good ones the highest, that is the fewest texts called members (+inf, nobody, where none beats
    chance). It lies midway between the lowest score above it and the next lower one.
    """
    order = np.argsort(-scores, kind="stable")
    falling, member = scores[order], labels[order]
    n_members, n_others = int(labels.sum()), int((~labels).sum())
    # Youden's J times M·N in whole numbers: ties of two floats would depend on rounding.
    gain = np.cumsum(np.where(member, n_others, -n_members))
    ends = np.flatnonzero(falling[:-1] > falling[1:])
    if not len(ends) or gain[ends].max() <= 0:
        return math.inf
    end = ends[np.argmax(gain[ends])]
    above, below = float(falling[end]), float(falling[end + 1])
    middle = below + (above - below) / 2
    return middle if below <= middle < above else below


def folds(items: Sequence[Scored]) -> IntArray:
    """Fold 0 or 1 of each item: clusters sorted by a hash of their name and dealt out in turn, [n].

    Dealt by kind (members only, non-members only, both), so the folds are stratified, a document is never in both, and
    attacks, models and ranks that look at the same texts agree. Texts without a score take part, or they would not.
    """
    kinds: dict[str, int] = {}
    for item in items:
        kinds[item.cluster] = kinds.get(item.cluster, 0) | (1 << item.label)
    fold: dict[str, int] = {}
    dealt = [0, 0, 0, 0]
    for name in sorted(kinds, key=lambda name: hashlib.sha256(name.encode()).digest()):
        fold[name] = dealt[kinds[name]] % 2
        dealt[kinds[name]] += 1
    return np.array([fold[item.cluster] for item in items], dtype=np.int64)


def crossfit_decisions(items: Sequence[Scored]) -> BoolArray:
    """Whether each text is called a member, by the threshold chosen on the fold it is not in, [n].

    A text without a score (NaN) is not called a member; `accuracies` leaves it out.

    Raises:
        InputError: where a fold lacks scored texts of one class, so that no threshold can be chosen on it.
    """
    labels, scores, _ = columns(items)
    fold = folds(items)
    decisions = np.zeros(len(items), dtype=np.bool_)
    for judged in (0, 1):
        chosen_on = (fold != judged) & ~np.isnan(scores)
        decisions[fold == judged] = scores[fold == judged] > _threshold(labels[chosen_on], scores[chosen_on])
    return decisions


def oracle_decisions(items: Sequence[Scored]) -> BoolArray:
    """Whether each text is called a member, by the threshold chosen on these very texts, [n]: as papers report it.

    Raises:
        InputError: where a class has no scored text.
    """
    labels, scores, _ = columns(items)
    scored = ~np.isnan(scores)
    decisions: BoolArray = scores > _threshold(labels[scored], scores[scored])
    return decisions


def _threshold(labels: BoolArray, scores: FloatArray) -> float:
    if not labels.any() or labels.all():
        raise InputError(
            f"a threshold needs scored texts of both classes, in each half where it is cross-fitted, but there are "
            f"{int(labels.sum())} members and {int((~labels).sum())} non-members to choose it on: give more texts"
        )
    return best_threshold(labels, scores)


def accuracies(items: Sequence[Scored], decisions: BoolArray) -> Accuracies:
    """Accuracies of decisions [n] over the scored texts, with binomial errors, cluster-robust where clusters repeat.

    The errors take the thresholds as given; those of `crossfit_accuracies` do not. A share of exactly 0 or 1 has
    Wilson's error, see `boundary_stderr`.
    """
    labels, scores, clusters = columns(items)
    scored = ~np.isnan(scores)
    labels, right = labels[scored], (decisions == labels)[scored].astype(np.float64)
    codes = cluster_codes([name for name, keep in zip(clusters, scored, strict=True) if keep], len(right))
    sides = [_share(right[side], codes[side]) for side in (labels, ~labels)]
    balanced = (sides[0].value + sides[1].value) / 2
    if math.isnan(balanced):
        return Accuracies(Estimate(math.nan, math.nan), *sides)
    residuals = right - np.where(labels, sides[0].value, sides[1].value)
    variance = two_sample_variance(residuals, labels, codes) / 4
    stderr = math.hypot(sides[0].stderr, sides[1].stderr) / 2 if variance == 0 else math.sqrt(variance)
    return Accuracies(Estimate(balanced, stderr), *sides)


def crossfit_accuracies(items: Sequence[Scored], draws: int = 200) -> Accuracies:
    """Accuracies of `crossfit_decisions`, with errors that allow for the choice of the thresholds.

    Other texts would have set the thresholds elsewhere, which moves member and non-member accuracy against each other
    by much more than their binomial errors say. So these two have a bootstrap's error, where it is the larger one: in
    each half the documents are drawn again by kind, and both thresholds are chosen again. Their mean hardly moves and
    keeps the error of `accuracies`. In simulations of 200 to 1,000 texts at AUROCs of 0.5 to 0.92, ±1.96 errors covered
    90 to 97 % (binomial ones 14 to 74 %).

    Raises:
        InputError: as `crossfit_decisions`.
    """
    judged = accuracies(items, crossfit_decisions(items))
    spreads = np.std(list(_redrawn(items, draws)), axis=0, ddof=1)
    sides = [
        Estimate(side.value, float(np.maximum(side.stderr, spread)))
        for side, spread in zip((judged.member, judged.nonmember), spreads, strict=True)
    ]
    return Accuracies(judged.balanced, *sides)


def _redrawn(items: Sequence[Scored], draws: int) -> Iterator[tuple[float, float]]:
    """Member and non-member accuracy of each bootstrap draw."""
    labels, scores, clusters = columns(items)
    codes, fold, scored = cluster_codes(clusters, len(items)), folds(items), ~np.isnan(scores)
    halves = [np.flatnonzero((fold == number) & scored) for number in (0, 1)]
    counts = [
        chain.from_iterable(
            resample(labels[half], np.unique(codes[half], return_inverse=True)[1], draws, np.random.default_rng(number))
        )
        for number, half in enumerate(halves)
    ]
    for drawn in zip(*counts, strict=True):
        texts = [np.repeat(half, times) for half, times in zip(halves, drawn, strict=True)]
        chosen = [best_threshold(labels[own], scores[own]) for own in texts]
        called = np.concatenate([scores[texts[0]] > chosen[1], scores[texts[1]] > chosen[0]])
        member = labels[np.concatenate(texts)]
        yield float(called[member].mean()), float((~called[~member]).mean())


def _share(right: FloatArray, codes: IntArray) -> Estimate:
    if not len(right):
        return Estimate(math.nan, math.nan)
    value = float(right.mean())
    return Estimate(value, share_stderr(mean_variance(right - value, codes), value, len(np.unique(codes))))


def threshold_at_fpr(population_nonmember_scores: npt.ArrayLike, fpr: float) -> float:
    """Threshold that a share `fpr` of held-out non-members [n] exceeds, as privacy-meter's population attack sets it.

    An estimate, not a bound: the quantile is interpolated linearly. NaN for fewer than 1/fpr scores, NaN not counted.

    Raises:
        InputError: unless 0 < fpr < 1.
    """
    if not 0 < fpr < 1:
        raise InputError(f"threshold_at_fpr: fpr must lie between 0 and 1, not {fpr!r}")
    # Of privacy-meter 1.0.1, constants, dataset, hypothesis_test, metric_result and utils import without TensorFlow
    # (tried with numpy 2.4; audit_report needs matplotlib, all others TensorFlow). Its threshold_func calls np.quantile
    # with the removed argument `interpolation`; linear_itp_threshold_func works.
    from privacy_meter.hypothesis_test import linear_itp_threshold_func

    scores = np.asarray(population_nonmember_scores, dtype=np.float64)
    scores = scores[~np.isnan(scores)]
    if len(scores) * fpr < 1:
        return math.nan
    # Its signals are losses (a member's lies strictly below the threshold), hence the signs; and it replaces the first
    # and the last alpha by the ends of the distribution, hence the 0 and the 1.
    return -float(linear_itp_threshold_func(-scores, np.array([0.0, fpr, 1.0]))[1])
