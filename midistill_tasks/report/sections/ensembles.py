"""The students of each arm together against the teacher."""

from __future__ import annotations

from dataclasses import replace

from midistill_tasks.report import tables
from midistill_tasks.report.findings import Findings
from midistill_tasks.report.page import Section
from midistill_tasks.report.sections import section

NOTE = (
    "As in the paper's first version: by the mean of the students' scores, and by the majority of their decisions, "
    "which is compared with the teacher's decisions."
)


@section(after="epsilon")
def ensembles(findings: Findings) -> Section | None:
    """The verdicts on the split; None where no arm has several students."""
    if not findings.ensembles:
        return None
    table = replace(tables.verdicts(findings.ensembles), name="ensembles")
    return Section(f"Ensembles of students: {findings.split}", tables=((findings.of_split(table), NOTE),))
