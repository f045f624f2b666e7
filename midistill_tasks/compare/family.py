"""The answers of one page together: with many comparisons some come out by chance, so they are corrected for that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from midistill_tasks.compare import wording
from midistill_tasks.compare.controls import Controlled
from midistill_tasks.compare.pairs import Comparison
from midistill_tasks.compare.verdict import ALPHA, holm


def settled(
    comparisons: Sequence[Comparison], controlled: Sequence[Controlled]
) -> tuple[list[Comparison], list[Controlled]]:
    """The same answers, those undecided that do not hold among all of them.

    Holm's method over arms, controls, ensembles and splits: with a chance of at most 5 % a page has a false "safer" or
    "not safer". Of the two at most one is false of a comparison, so each counts once.
    """
    adjusted = holm([each.verdict.p for each in comparisons] + [each.p for each in controlled])
    count = len(comparisons)
    return (
        [_compared(each, p, len(adjusted)) for each, p in zip(comparisons, adjusted[:count], strict=True)],
        [
            each if p <= ALPHA else each._replace(word="undecided")
            for each, p in zip(controlled, adjusted[count:], strict=True)
        ],
    )


def _compared(comparison: Comparison, adjusted: float, answers: int) -> Comparison:
    verdict = comparison.verdict
    if adjusted <= ALPHA or verdict.word == "undecided":
        return comparison
    said = verdict.sentence + wording.not_among(verdict.p, adjusted, answers, verdict.word)
    return replace(comparison, verdict=verdict._replace(word="undecided", sentence=said))
