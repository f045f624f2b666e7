"""What attacks find of canaries by how often each was repeated: inserted ones against those held out of one group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from midistill_tasks.compare.epsilon import Epsilon, epsilon, of_each, why_no_bound
from midistill_tasks.metrics.epsilon import why_few
from midistill_tasks.metrics.estimate import Estimate, Interval
from midistill_tasks.metrics.exposure import exposure
from midistill_tasks.metrics.intervals import auroc_interval, tpr_interval
from midistill_tasks.metrics.roc import tpr_at_fpr
from midistill_tasks.metrics.scored import Scored, columns
from midistill_tasks.results.run import AttackResult, Run


class Group(NamedTuple):
    """One attack on one model, on the canaries of one number of repeats.

    Attributes:
        epsilon: at the level of a canary with all its repeats; for one line of the training data divide by these, since
            training that is ε-DP by lines is (repeats · ε)-DP by canaries.
    """

    repeats: int
    inserted: int
    held_out: int
    auroc: Interval
    tpr: Interval
    exposure: Estimate
    epsilon: Epsilon


def repeats_of(result: AttackResult) -> dict[int, list[Scored]]:
    """Repeats → the canaries of that group, inserted and held out; empty where the texts are no canaries."""
    groups: dict[int, list[Scored]] = {}
    for item in result.items:
        name = result.groups.get(item.id, "")
        if name.isdecimal():
            groups.setdefault(int(name), []).append(item)
    return dict(sorted(groups.items()))


def by_repeats(runs: Sequence[Run], split: str, confidence: float = 0.95) -> list[list[tuple[AttackResult, Group]]]:
    """For each run the groups of its attacks on a split. All ε of all runs hold together with `confidence`."""
    groups = [
        [(result, *group) for result in run.on(split).values() for group in repeats_of(result).items()] for run in runs
    ]
    bounds = sum(not (why_no_bound(result) or why_few(items)) for of_run in groups for result, _, items in of_run)
    each = of_each(confidence, bounds)
    return [[(result, _group(result, often, items, each)) for result, often, items in of_run] for of_run in groups]


def _group(result: AttackResult, repeats: int, items: list[Scored], confidence: float) -> Group:
    labels, scores, clusters = columns(items)
    tpr = Interval(tpr_at_fpr(labels, scores, 0.01), *tpr_interval(labels, scores, 0.01, clusters))
    inserted = int(np.count_nonzero(labels))
    return Group(
        repeats,
        inserted,
        len(items) - inserted,
        auroc_interval(labels, scores, clusters, variance=result.variance),
        tpr,
        exposure(items),
        epsilon(result, confidence, items),
    )
