"""Decisions (member or not) from a threshold, and their accuracies.

A text is called a member where its score is strictly above the threshold; or, where an attack turns out to have the
wrong sign on the texts that the threshold is chosen on, strictly below it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from midistill_tasks.errors import InputError
from midistill_tasks.metrics.clusters import (
    cluster_codes,
    mean_variance,
    share_stderr,
    two_sample_variance,
)
from midistill_tasks.metrics.estimate import Estimate
from midistill_tasks.metrics.redrawn import majority, redrawn
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


class Rule(NamedTuple):
    """How texts are called members: where ``sign · score`` is strictly above the threshold."""

    sign: int
    threshold: float

    def called(self, scores: FloatArray) -> BoolArray:
        """Whether each text is called a member, [n]; one without a score is not."""
        decisions: BoolArray = self.sign * scores > self.threshold
        return decisions


def best_rule(labels: BoolArray, scores: FloatArray) -> Rule:
    """The rule of highest balanced accuracy on the given texts, as `best_threshold`, for either sign of the score.

    An attack whose members score lower leaks as much as one whose members score higher. Of equally good ones the sign
    that the attack has.
    """
    rules = [Rule(sign, best_threshold(labels, sign * scores)) for sign in (1, -1)]
    return max(rules, key=lambda rule: _gain(rule, labels, scores))


def _gain(rule: Rule, labels: BoolArray, scores: FloatArray) -> int:
    """Youden's J times M·N."""
    called = rule.called(scores)
    return int(called[labels].sum()) * int((~labels).sum()) - int(called[~labels].sum()) * int(labels.sum())


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
    """Whether each text is called a member, by the rule (threshold and sign) chosen on the fold it is not in, [n].

    A text without a score (NaN) is not called a member; `accuracies` leaves it out.

    Raises:
        InputError: where a fold lacks scored texts of one class, so that no threshold can be chosen on it.
    """
    labels, scores, _ = columns(items)
    fold = folds(items)
    decisions = np.zeros(len(items), dtype=np.bool_)
    for judged in (0, 1):
        chosen_on = (fold != judged) & ~np.isnan(scores)
        _check_classes(labels[chosen_on])
        decisions[fold == judged] = best_rule(labels[chosen_on], scores[chosen_on]).called(scores[fold == judged])
    return decisions


def oracle_decisions(items: Sequence[Scored]) -> BoolArray:
    """Whether each text is called a member, by the threshold chosen on these very texts, [n]: as papers report it.

    Raises:
        InputError: where a class has no scored text.
    """
    labels, scores, _ = columns(items)
    scored = ~np.isnan(scores)
    _check_classes(labels[scored])
    decisions: BoolArray = scores > best_threshold(labels[scored], scores[scored])
    return decisions


def _check_classes(labels: BoolArray) -> None:
    if not labels.any() or labels.all():
        raise InputError(
            f"a threshold needs scored texts of both classes, in each half where it is cross-fitted, but there are "
            f"{int(labels.sum())} members and {int((~labels).sum())} non-members to choose it on: give more texts"
        )


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

    Raises:
        InputError: as `crossfit_decisions`.
    """
    return voted_accuracies(items, crossfit_decisions(items), columns(items)[1][None], draws)


def voted_accuracies(items: Sequence[Scored], decisions: BoolArray, voters: FloatArray, draws: int = 200) -> Accuracies:
    """Accuracies of decisions [n] by more than half of some voters, with errors that allow for their thresholds.

    Other texts would have set the thresholds (and the sign) elsewhere, which moves member and non-member accuracy
    against each other by much more than their binomial errors say, and their mean a little. So each has a bootstrap's
    error, where it is the larger one, see `redrawn`. `tests/campaigns/coverage.py` measures how often ± its quantile
    covers.

    Args:
        items: labels, ids and clusters; a text that a voter has no score for has none.
        decisions: whether each is called a member.
        voters: the scores by which each voter decides, [V, n]; one voter = his own decisions.
        draws: of the bootstrap.
    """
    judged = accuracies(items, decisions)
    spreads = np.std(_redrawn(items, voters, draws), axis=0, ddof=1)
    return Accuracies(
        *(
            Estimate(part.value, float(np.maximum(part.stderr, spread)))
            for part, spread in zip(judged, spreads, strict=True)
        )
    )


def _redrawn(items: Sequence[Scored], voters: FloatArray, draws: int) -> FloatArray:
    """The `Accuracies` of each bootstrap draw, [draws, 3]."""
    labels, scores, clusters = columns(items)
    scored = np.flatnonzero(~np.isnan(scores))
    labels, codes = labels[scored], cluster_codes(clusters, len(items))[scored]
    right, total = np.zeros((draws, 2)), np.zeros((draws, 2))
    for half in redrawn(labels, voters[:, scored], codes, folds(items)[scored], draws):
        called, own = majority(half.called), labels[half.texts]
        for side, (members, decided) in enumerate(((own, called), (~own, ~called))):
            right[half.rows, side] += (half.times * decided)[:, members].sum(1)
            total[half.rows, side] += half.times[:, members].sum(1)
    with np.errstate(invalid="ignore"):
        shares = right / total
    return np.column_stack([shares.sum(1) / 2, shares])


def share_at_least(items: Sequence[Scored], members: bool, score: float) -> Estimate:
    """Share of the texts of one side whose score is at least this, with its error between documents."""
    labels, scores, clusters = columns(items)
    chosen = (labels == members) & ~np.isnan(scores)
    codes = cluster_codes(clusters, len(items))
    return _share(np.asarray(scores[chosen] >= score, dtype=np.float64), codes[chosen])


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
