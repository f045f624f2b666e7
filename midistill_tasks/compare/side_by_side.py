"""Models beside each other, none of them a teacher: every attack on every pair, on the same texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

from midistill_tasks.compare.verdict import holm
from midistill_tasks.errors import InputError
from midistill_tasks.metrics.roc import PairedTest, delong_paired
from midistill_tasks.results.matching import comparable_results
from midistill_tasks.results.run import Run


class Pair(NamedTuple):
    """One attack on two models.

    Attributes:
        attack: its id.
        first, second: the models' names.
        test: DeLong's paired test; a = second, b = first, so that `diff` = second − first.
        p_holm: its p, adjusted for all pairs and attacks of the split (Holm 1979).
    """

    attack: str
    first: str
    second: str
    test: PairedTest
    p_holm: float


def side_by_side(runs: Sequence[tuple[str, Run]], split: str) -> list[Pair]:
    """Every pair of models under every attack that ran on both; pairs that do not compare (other texts, other
    options) are left out.

    Args:
        runs: name and run of each model.
        split: that they were attacked on.
    """
    found = list(_pairs(runs, split))
    adjusted = holm([pair.test.p for pair in found])
    return [pair._replace(p_holm=p) for pair, p in zip(found, adjusted, strict=True)]


def _pairs(runs: Sequence[tuple[str, Run]], split: str) -> Iterator[Pair]:
    for (first, one), (second, other) in combinations(runs, 2):
        try:
            before, after = comparable_results([one, other], split)
        except InputError:
            continue
        for attack, result in before.items():
            against = after[attack]
            variance = max(result.variance, against.variance)
            test = delong_paired(result.labels, against.scores, result.scores, result.clusters, variance)
            yield Pair(attack, first, second, test, test.p)
