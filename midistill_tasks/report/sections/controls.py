"""Interventions and their controls, as a table."""

from __future__ import annotations

from midistill_tasks.report.findings import Findings
from midistill_tasks.report.page import Section
from midistill_tasks.report.sections import section
from midistill_tasks.results.table import Table

NOTE = (
    "Reduction: leak of the strongest attack on the control minus that on the arm, so above 0 is safer. 95 % "
    "interval for other texts and the choice among the attacks, with several seeds (arm and control of one seed are a "
    "pair) for other seeds, too. A leak that falls while the perplexity rises may be no more "
    "than a weaker model."
)
COLUMNS = ("arm", "control", "seeds", "reduction of the leak", "than the control", "perplexity", "of control")


@section(after="overview")
def controls(findings: Findings) -> Section | None:
    """A row an arm that has a control with results."""
    if not findings.controlled:
        return None
    table = Table("controls", "Each intervention against its control", COLUMNS, findings.controlled)
    heading = f"Interventions and their controls: {findings.split}"
    return Section(heading, tables=((findings.of_split(table), NOTE),))
