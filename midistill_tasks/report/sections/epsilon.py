"""The one-run lower bound on ε of every run, or the reason why there is none."""

from __future__ import annotations

import math
from collections.abc import Sequence

from midistill_tasks.compare.epsilon import Epsilon, epsilons, rounded_down
from midistill_tasks.report import tables
from midistill_tasks.report.findings import Findings
from midistill_tasks.report.page import Section
from midistill_tasks.report.sections import section

NOTE = (
    "Steinke, Nasr and Jagielski 2023, one training run. All bounds have one confidence, at which all of them together "
    "hold at 95 %, so they can be compared. The ceiling is the bound if every guess were right: equal bounds at the "
    "ceiling do not say that models leak alike. 0 = no evidence, which is no proof of privacy."
)


@section(after="exposed")
def epsilon(findings: Findings) -> Section:
    """A sentence on each model's largest bound, and all of them as a table."""
    bounds = [
        (entry.name, run.model, bound)
        for (_, entry), of_entry in zip(findings.entries, _of_entries(findings), strict=True)
        for run, of_run in zip(entry.runs, of_entry, strict=True)
        for bound in of_run
    ]
    heading = f"ε of differential privacy, a lower bound: {findings.split}"
    if all(math.isnan(bound.value) for *_, bound in bounds):
        reasons = sorted({bound.reason for *_, bound in bounds})
        return Section(heading, tuple(f"There is {reason}." for reason in reasons))
    table = tables.epsilons([(run, bound) for _, run, bound in bounds])
    largest = _largest([(model, bound) for model, _, bound in bounds])
    return Section(heading, (largest,), folded=((findings.of_split(table), NOTE),))


def _of_entries(findings: Findings) -> list[list[list[Epsilon]]]:
    """Entry → run → bounds, corrected over all of them."""
    found = iter(epsilons(findings.runs, findings.split))
    return [[next(found) for _ in entry.runs] for _, entry in findings.entries]


def _largest(bounds: Sequence[tuple[str, Epsilon]]) -> str:
    """One line: the largest bound of each model, with its guesses."""
    best: dict[str, Epsilon] = {}
    for model, bound in bounds:
        if not math.isnan(bound.value) and (model not in best or bound.value > best[model].value):
            best[model] = bound
    first = next(iter(best.values()))
    said = ", ".join(f"{name} {_said(bound)}" for name, bound in best.items())
    return (
        f"Largest bound of each model at δ = 0, all at {first.confidence:.2%} confidence, which is 95 % over all "
        f"models, seeds and attacks of this split: {said}. If all guesses were right it would be "
        f"{rounded_down(first.ceiling)}."
    )


def _said(bound: Epsilon) -> str:
    guesses = f"{bound.task}, {bound.correct} of {bound.guesses}"
    if not bound.value:
        return f"no evidence ({guesses})"
    return f"{rounded_down(bound.value)} ({guesses}{', saturated' if bound.correct == bound.guesses else ''})"
