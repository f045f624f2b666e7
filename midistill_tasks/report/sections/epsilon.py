"""The one-run lower bound on ε of every run, or the reason why there is none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from midistill_tasks.compare.epsilon import Epsilon, arm_epsilons
from midistill_tasks.report.findings import Findings
from midistill_tasks.report.page import Section
from midistill_tasks.report.sections import section
from midistill_tasks.results.table import Table

NOTE = "Steinke, Nasr and Jagielski 2023, one training run, δ = 0. 0 = no evidence, which is no proof of privacy."
COLUMNS = ("model", "run", "attack", "ε at least", "confidence", "what it says")


class Bounded(NamedTuple):
    """The bound of one attack on one run of a model."""

    model: str
    run: str
    attack: str
    bound: Epsilon


@section(after="exposed")
def epsilon(findings: Findings) -> Section:
    """A sentence on each model's largest bound, and all of them as a table."""
    bounds = [
        Bounded(entry.name, run.model, result.attack, bound)
        for _, entry in findings.entries
        for run, of_run in zip(entry.runs, arm_epsilons(entry.runs), strict=True)
        for result, bound in zip(run.tasks.values(), of_run, strict=True)
        if result.split == findings.split
    ]
    heading = f"ε of differential privacy, a lower bound: {findings.split}"
    if all(math.isnan(each.bound.value) for each in bounds):
        reasons = sorted({each.bound.reason for each in bounds})
        return Section(heading, tuple(f"There is {reason}." for reason in reasons))
    rows = tuple(
        (model, run, attack, bound.value, f"{bound.confidence:.1%}", bound.reason)
        for model, run, attack, bound in bounds
    )
    table = findings.of_split(Table("epsilon", "Lower bound on ε of each model", COLUMNS, rows))
    return Section(heading, (_largest(bounds),), folded=((table, NOTE),))


def _largest(bounds: Sequence[Bounded]) -> str:
    """One line: the largest bound of each model."""
    best: dict[str, tuple[float, str]] = {}
    for model, _, attack, bound in bounds:
        if not math.isnan(bound.value):
            best[model] = max(best.get(model, (-1.0, "")), (bound.value, attack))
    said = [
        f"{name} {value:.2f} ({attack})" if value else f"{name} no evidence" for name, (value, attack) in best.items()
    ]
    return f"Largest bound of each model, at 95 % confidence over its attacks and its seeds: {', '.join(said)}."
