"""The answers of one page together: with many comparisons some come out by chance, so they are corrected for that."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from midistill_tasks.compare import wording
from midistill_tasks.compare.controls import Controlled
from midistill_tasks.compare.frontier.against import Against
from midistill_tasks.compare.pairs import Comparison
from midistill_tasks.compare.verdict import ALPHA, Verdict, holm


def settled(
    comparisons: Sequence[Comparison], controlled: Sequence[Controlled], against: Sequence[Against] = ()
) -> tuple[list[Comparison], list[Controlled], list[Against]]:
    """The same answers, those undecided that do not hold among all of them.

    Holm's method over arms, controls, frontiers, ensembles and splits: with a chance of at most 5 % a page has a false
    "safer" or "not safer". Of the two at most one is false of a comparison, so each counts once; where there was no
    comparison nothing is said, and that does not count.
    """
    beside = [*(each.p for each in controlled), *(each.p for each in against)]
    adjusted = holm([*(each.verdict.p for each in comparisons), *beside])
    answers = sum(not math.isnan(p) for p in adjusted)
    count, after = len(comparisons), len(comparisons) + len(controlled)
    return (
        [_compared(each, p, answers) for each, p in zip(comparisons, adjusted[:count], strict=True)],
        [
            each if p <= ALPHA else each._replace(word="undecided")
            for each, p in zip(controlled, adjusted[count:after], strict=True)
        ],
        [_against(each, p, answers) for each, p in zip(against, adjusted[after:], strict=True)],
    )


def _against(against: Against, adjusted: float, answers: int) -> Against:
    if not adjusted > ALPHA or against.word == "undecided":
        return against
    said = wording.not_among(against.p, adjusted, answers, against.word)
    figures = wording.against_frontier(against.arm, "undecided", against.reduction)
    return against._replace(word="undecided", sentence=f"{figures} {said}")


def _compared(comparison: Comparison, adjusted: float, answers: int) -> Comparison:
    verdict = comparison.verdict
    if adjusted <= ALPHA or verdict.word == "undecided":
        return comparison
    sentence = _taken_back(verdict, adjusted, answers)
    return replace(comparison, verdict=verdict._replace(word="undecided", sentence=sentence))


def settled_alone(said: Sequence[wording.Alone]) -> list[wording.Alone]:
    """The same answers on models alone, those undecided that do not hold among all of them (Holm)."""
    adjusted = holm([one.p for one in said])
    return [_alone(one, p, len(said)) for one, p in zip(said, adjusted, strict=True)]


def _alone(one: wording.Alone, adjusted: float, answers: int) -> wording.Alone:
    if one.word != "leaks" or adjusted <= ALPHA:
        return one
    return wording.Alone("undecided", "", _taken_back(one, adjusted, answers), one.p)


def _taken_back(answer: Verdict | wording.Alone, adjusted: float, answers: int) -> str:
    said = wording.not_among(answer.p, adjusted, answers, answer.word)
    return f"{said} {wording.without_answer(answer.sentence)}"
