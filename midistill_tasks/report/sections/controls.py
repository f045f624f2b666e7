"""Interventions and their controls, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from midistill_tasks.report.findings import Findings
from midistill_tasks.report.page import Section
from midistill_tasks.report.sections import section
from midistill_tasks.results.table import Table

NOTE = (
    "Reduction: leak of the strongest attack on the control minus that on the arm, so above 0 is safer. 95 % interval "
    "for other texts and the choice among the attacks, from three seeds on (arm and control of one are a pair) for "
    "other seeds, too. The word holds among all answers of the page (Holm); p is this comparison's alone. A leak that "
    "falls while the perplexity rises may be no more than a weaker model."
)
COLUMNS = ("arm", "control", "seeds", "reduction of the leak", "than the control", "p", "perplexity", "of control")


DIFFERENCES = {
    "texts": "texts",
    "tokens": "tokens",
    "epochs": "epochs",
    "steps": "steps",
    "parameters": "parameters",
    "trained_parameters": "trained parameters",
    "adapted": "adapted modules",
}
"""Field of `Trained` → its column."""
DIFFERENCES_NOTE = (
    "Arm | control where they differ, one figure where they do not; several seeds: smallest–largest. Tokens of one "
    "epoch. A control should differ from its arm in what the arm is about, and in nothing else: what differs beside it "
    "may be what divides their leaks. – = an older version did not write it down."
)


@section(after="overview")
def controls(findings: Findings) -> Section | None:
    """A row an arm that has a control with results, and in what the two differ."""
    if not findings.controlled:
        return None
    table = Table(
        "controls",
        "Each intervention against its control",
        COLUMNS,
        tuple(tuple(each[1:]) for each in findings.controlled),
    )
    heading = f"Interventions and their controls: {findings.split}"
    folded = ((findings.of_split(_differences(findings)), DIFFERENCES_NOTE),) if findings.group.trained else ()
    return Section(heading, tables=((findings.of_split(table), NOTE), *folded))


def _differences(findings: Findings) -> Table:
    rows = []
    for _, arm, control, *_ in findings.controlled:
        trained = [findings.group.trained.get(name, {}) for name in (arm, control)]
        seeds = [", ".join(each) or None for each in trained]
        cells = [
            tuple(_range([getattr(student, field) for student in each.values()]) for each in trained)
            for field in DIFFERENCES
        ]
        rows.append((arm, control, *(_beside(*pair) for pair in ((seeds[0], seeds[1]), *cells))))
    columns = ("arm", "control", "seeds", *DIFFERENCES.values())
    return Table("differences", "In what arm and control differ", columns, tuple(rows))


def _range(values: Sequence[Any]) -> str | None:
    known = sorted({", ".join(value) or "none" if isinstance(value, tuple) else value for value in values} - {None})
    if not known or None in values:
        return None
    ends = [f"{end:,}" if isinstance(end, int) else end for end in dict.fromkeys((known[0], known[-1]))]
    return "–".join(ends)


def _beside(arm: str | None, control: str | None) -> str:
    first, second = arm or "–", control or "–"
    return first if first == second else f"{first} | {second}"
