"""Which texts: the paper's teacher × student matrices, the strongest attack as charts, everything as tables."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from midistill_tasks.compare.pairs import ComparedAttack
from midistill_tasks.metrics.scored import FloatArray
from midistill_tasks.report import tables
from midistill_tasks.report.findings import Findings
from midistill_tasks.report.page import Section
from midistill_tasks.report.sections import section
from midistill_tasks.report.svg import COLOURS, NARROW, Canvas

AGREEMENT_NOTE = (
    "Jaccard: members found in both models / found in one or both. Kappa: the same beyond chance (0 = chance, 1 = the "
    "same members). Errors allow for thresholds that other texts would have set elsewhere."
)


@section(after="curves")
def matrices(findings: Findings) -> Section | None:
    """A chart an arm; None without a teacher."""
    if not findings.comparisons:
        return None
    charts = [
        matrix_chart(comparison.arm, _counts(attack))
        for comparison in findings.comparisons[:COLOURS]
        for attack in comparison.attacks  # one that did not run on these students is in the tables only
        if attack.attack == findings.strongest
    ]
    note = (
        f"The attack {findings.strongest}: share of the texts (of all, of the members, of the non-members), mean over "
        "the students of an arm. Right, members, teacher yes and student no: members that are found in the teacher and "
        "no longer in the student. Thresholds are cross-fitted for each model on its own."
    )
    return Section(
        f"Which texts: teacher against student on {findings.split}",
        small=tuple(charts),
        small_note=note,
        folded=(
            (findings.of_split(tables.matrices(findings.comparisons)), ""),
            (findings.of_split(tables.agreements(findings.comparisons)), AGREEMENT_NOTE),
        ),
    )


def _counts(attack: ComparedAttack) -> list[tuple[str, FloatArray]]:
    """The paper's matrices, each a title and mean counts over the students, [4]."""
    cells = {
        "called member": [student.predicted.all for student in attack.students],
        "right, members": [student.right.members for student in attack.students],
        "right, others": [student.right.nonmembers for student in attack.students],
    }
    return [(title, np.mean(counts, axis=0)) for title, counts in cells.items()]


def matrix_chart(arm: str, matrices: Sequence[tuple[str, FloatArray]]) -> Markup:
    """Teacher × student, one square a matrix: title and counts (both, teacher only, student only, neither)."""
    canvas = Canvas(NARROW, 168, f"Teacher against {arm}: " + ", ".join(title for title, _ in matrices))
    canvas.text(0, 14, arm, "label")
    cell, step = 37, 98
    for row, words in enumerate(("yes", "no")):
        canvas.text(40, 62 + row * cell + cell / 2 - 12, words, "tick", "end")
    canvas.text(0, 86, "teacher", "tick")
    for number, (title, counts) in enumerate(matrices):
        left = 46 + number * step
        canvas.text(left, 36, title, "tick")
        for position, share in enumerate(counts / max(float(counts.sum()), 1.0)):
            x, y = left + position % 2 * cell, 44 + position // 2 * cell
            box = '<rect x="{}" y="{}" width="{}" height="{}" class="cell" style="fill-opacity:{}"/>'
            canvas.add(box, x, y, cell - 2, cell - 2, float(share))
            canvas.text(x + cell / 2 - 1, y + cell / 2 + 4, f"{100 * share:.0f} %", "value", "middle")
        for column, words in enumerate(("yes", "no")):
            canvas.text(left + column * cell + cell / 2 - 1, 44 + 2 * cell + 14, words, "tick", "middle")
    canvas.text(46 + step + cell, 44 + 2 * cell + 32, "student", "tick", "middle")
    return canvas.render()
