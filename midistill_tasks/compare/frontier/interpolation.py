"""A trivial defence of a student's own perplexity: between two vanilla students, with the error of that.

A student has a leak A (AUROC of an attack) and a utility u (held-out log-perplexity, nats a byte or word). Of vanilla
students with less and less training, two lie around its u; A is taken to be linear in u between them:

    A* = (1−w)·A_c + w·A_c+1,    w = (u − u_c) / (u_c+1 − u_c).

What a text adds to the error (its influence, Hampel 1974; of an AUROC DeLong's component, of u that of a ratio of sums,
Cochran, Sampling Techniques, chapter 6) passes through the interpolation:

    IF(A*) = (1−w)·IF(A_c) + w·IF(A_c+1) + (A_c+1 − A_c)/(u_c+1 − u_c) · (IF(u) − (1−w)·IF(u_c) − w·IF(u_c+1)).

The held-out texts are the non-members, so both figures see them, and most of their error goes together and drops out.

A frontier is no chain of straight lines. How far the curve lies from the line follows from how the frontier bends:
w(1−w)·(u_c+1 − u_c)² times its second divided difference, the larger of the two that hold both points and a neighbour.
Between the only two students there are, it is that of the sharpest bend that a parabola can have without turning back,
w(1−w)·(A_c+1 − A_c). Before the last student, past which nobody sees, a training may be about to reach its best
perplexity: the curve stands upright there, so u is taken as a parabola over A through the last three, too, and what is
more counts. With its vertex at the last student, which is the most, that is (√x − x)·(A_c+1 − A_c), x = 1−w. The limits
of a reduction are that much farther out: without it, a student of the very same training that was stopped between two
checkpoints "leaks less" in a quarter to two fifths of simulated studies, and without that of the last three in three
quarters, where the training ends at its best.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from midistill_tasks.metrics.clusters import cluster_codes, freedom, two_sample_covariance
from midistill_tasks.metrics.roc import Areas, auroc_components, newcombe_stderr
from midistill_tasks.metrics.scored import BoolArray, FloatArray, IntArray
from midistill_tasks.results.likelihoods import Heldout
from midistill_tasks.results.run import AttackResult


class Texts(NamedTuple):
    """Those that were attacked or held out.

    Attributes:
        ids: [n].
        member: [n]; a text that was held out only is none.
        codes: the document of each, [n].
        scored: that have a score under the attacks, [n].
    """

    ids: tuple[str, ...]
    member: BoolArray
    codes: IntArray
    scored: BoolArray


class Measured(NamedTuple):
    """A student on the plane of leak and utility.

    Attributes:
        areas: AUROC of each attack, [A].
        of_areas: what each text adds to their errors, [A, n].
        separation: the error of an AUROC of 0 or 1, whose components are constant; else 0, [A].
        utility: log-perplexity on the held-out texts, nats a byte or word; higher is worse.
        of_utility: what each text adds to its error, [n].
        bend: of a student that was interpolated: how far the frontier may lie from the line, with its sign, [A].
    """

    areas: FloatArray
    of_areas: FloatArray
    separation: FloatArray
    utility: float
    of_utility: FloatArray
    bend: FloatArray | float = 0.0


def texts_of(result: AttackResult, heldout: Heldout) -> Texts:
    """The texts of one attack on one student and of its perplexity; all students that are compared have the same."""
    held, scored = set(heldout.ids), ~np.isnan(result.scores)
    kept = [number for number, item in enumerate(result.items) if scored[number] or item.id in held]
    attacked = [result.items[number] for number in kept]
    beside = sorted(held - {item.id for item in attacked})
    clusters = [item.cluster for item in attacked] + beside
    return Texts(
        ids=(*(item.id for item in attacked), *beside),
        member=np.array([item.label == 1 for item in attacked] + [False] * len(beside), dtype=np.bool_),
        codes=cluster_codes(clusters, len(clusters)),
        scored=np.concatenate([scored[kept], np.zeros(len(beside), dtype=np.bool_)]),
    )


def measure(results: Mapping[str, AttackResult], heldout: Heldout, texts: Texts) -> Measured:
    """One student; `results` by attack, each with scores for the `scored` texts and no others."""
    member, place = texts.member[texts.scored], {name: number for number, name in enumerate(texts.ids)}
    counts = np.where(member, member.sum(), (~member).sum())
    areas, of_areas = np.empty(len(results)), np.zeros((len(results), len(texts.ids)))
    for row, result in enumerate(results.values()):
        areas[row], components = auroc_components(member, result.scores[~np.isnan(result.scores)])
        of_areas[row, texts.scored] = (components - areas[row]) / counts
    sides = [len(np.unique(texts.codes[texts.scored & side])) for side in (texts.member, ~texts.member)]
    separated = np.isin(areas, (0.0, 1.0))
    separation = separated.astype(np.float64) * (newcombe_stderr(*sides) if separated.any() else 0.0)
    of_utility = np.zeros(len(texts.ids))
    utility = heldout.value
    residuals = (heldout.losses - utility * heldout.sizes) / heldout.sizes.sum()
    np.add.at(of_utility, [place[name] for name in heldout.ids], residuals)
    return Measured(areas, of_areas, separation, utility, of_utility)


def front(utilities: Sequence[float]) -> list[int]:
    """Which students are on the frontier, of these u by how much training each had: those of a lower u than all before.

    A student that is no better than one with less training is dominated, since training less was as good: past the
    best perplexity a vanilla student only learns its members by heart, and a line to it would flatter every arm
    (simulated: with all of them sorted by u, a stopped student "leaks less" in one study in ten). Where two are equal,
    the one with less training stays. Chosen by u alone, and not by leak, so that chance in the leak chooses nothing;
    what is left is sorted by u.
    """
    best = np.minimum.accumulate([np.inf, *utilities])
    return [number for number, utility in enumerate(utilities) if utility < best[number]]


def at_utility_of(student: Measured, points: Sequence[Measured]) -> Measured | None:
    """The vanilla student of its u, by `points` of falling u; None out of their range: nothing is extrapolated."""
    for place, (worse, better) in enumerate(pairwise(points)):
        if better.utility <= student.utility <= worse.utility:
            before, after = (points[n] if 0 <= n < len(points) else None for n in (place - 1, place + 2))
            return _between(student, worse, better, before, after)
    return None


def _between(
    student: Measured, worse: Measured, better: Measured, before: Measured | None, after: Measured | None
) -> Measured:
    gap = better.utility - worse.utility
    weight = (student.utility - worse.utility) / gap
    slope = (better.areas - worse.areas) / gap
    moved = student.of_utility - (1 - weight) * worse.of_utility - weight * better.of_utility
    beside = [near for near in (before, after) if near]
    bends = [_second_difference(worse, better, near) * gap**2 for near in beside] or [better.areas - worse.areas]
    bends = [weight * (1 - weight) * bend for bend in bends]
    if after is None:
        bends.append(_upright(weight, worse, better, before))
    return Measured(
        areas=(1 - weight) * worse.areas + weight * better.areas,
        of_areas=(1 - weight) * worse.of_areas + weight * better.of_areas + np.outer(slope, moved),
        separation=(1 - weight) * worse.separation + weight * better.separation,
        utility=student.utility,
        of_utility=student.of_utility,
        bend=np.take_along_axis(np.array(bends), np.abs(bends).argmax(axis=0)[None], axis=0)[0],
    )


def _second_difference(first: Measured, second: Measured, third: Measured) -> FloatArray:
    """Of A by u, divided: half of the second derivative, [A]."""
    slopes = [(b.areas - a.areas) / (b.utility - a.utility) for a, b in ((first, second), (second, third))]
    return np.asarray((slopes[1] - slopes[0]) / (third.utility - first.utility))


def _upright(weight: float, worse: Measured, better: Measured, before: Measured | None) -> FloatArray:
    """What lies between line and curve where u is a parabola over A, with its vertex no nearer than `better`, [A].

    With h from 0 at `worse` to 1 at `better` along A, w = h − e·h·(1 − h): e = −1 has its vertex at the end.
    """
    rise = better.areas - worse.areas
    turning = np.full(len(rise), -1.0)
    if before is not None:
        with np.errstate(divide="ignore", invalid="ignore"):  # two students of the same A: anything may be between
            slopes = [(b.utility - a.utility) / (b.areas - a.areas) for a, b in ((before, worse), (worse, better))]
            turning = (1 - slopes[0] / slopes[1]) * rise / (better.areas - before.areas)
        turning = np.clip(np.nan_to_num(turning, nan=-1.0), -1.0, 0.0)
    along = 2 * weight / (1 - turning + np.sqrt((1 - turning) ** 2 + 4 * turning * weight))
    return np.asarray((weight - along) * rise)


def differences(
    before: Sequence[Measured], after: Sequence[Measured], attacks: tuple[int, int], texts: Texts, sign: int = 1
) -> Areas:
    """Per seed the AUROC after minus that before, [S], with covariances over the texts, [S, S].

    Args:
        before, after: a pair a seed.
        attacks: which one before, which one after.
        texts: of all.
        sign: −1 for scores after that are turned round.
    """
    first, second = attacks
    own = np.stack([one.of_areas[second] for one in after]) * sign
    rows = own - np.stack([one.of_areas[first] for one in before])
    residuals = rows * np.where(texts.member, texts.member.sum(), (~texts.member).sum())
    covariance = two_sample_covariance(residuals, texts.member, texts.codes)
    for side, attack in ((before, first), (after, second)):
        errors = np.array([one.separation[attack] for one in side])
        covariance += np.outer(errors, errors)
    values = [_turned(b.areas[second], sign) - a.areas[first] for a, b in zip(before, after, strict=True)]
    return Areas(np.array(values), covariance, freedom(residuals.mean(axis=0), texts.member, texts.codes))


def _turned(area: float, sign: int) -> float:
    return area if sign > 0 else 1 - area
