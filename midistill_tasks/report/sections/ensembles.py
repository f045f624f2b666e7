"""The students of each arm together against the teacher."""

from __future__ import annotations

from dataclasses import replace

from midistill_tasks.compare.pairs import compare_ensembles
from midistill_tasks.report import tables
from midistill_tasks.report.findings import Findings
from midistill_tasks.report.page import Section
from midistill_tasks.report.sections import section

NOTE = (
    "As in the paper's first version: by the mean of the students' scores, and by the majority of their decisions, "
    "which is compared with the teacher's decisions."
)


@section(after="epsilon", per="page")
def ensembles(findings: Findings) -> Section | None:
    """The verdicts on all splits; None where no arm has several students."""
    group = findings.group
    arms = {arm.name: arm.runs for arm in group.arms if len(arm.runs) > 1}
    if group.teacher is None or not arms:
        return None
    table = tables.verdicts(compare_ensembles(group.teacher_run, arms))
    return Section("Ensembles of students", tables=((replace(table, name="ensembles"), NOTE),))
