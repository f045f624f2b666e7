"""Models beside each other where none is the teacher: by how much an attack does better on one than on the other."""

from __future__ import annotations

from midistill_tasks.compare.side_by_side import Pair
from midistill_tasks.compare.side_by_side import side_by_side as pairs_of
from midistill_tasks.metrics.estimate import Estimate
from midistill_tasks.report.findings import Findings
from midistill_tasks.report.page import Section
from midistill_tasks.report.sections import section
from midistill_tasks.results.table import Cell, Table

NOTE = (
    "DeLong's paired test over the same texts, ± standard error; Holm's p allows for all pairs and attacks of this "
    "split. A larger AUROC leaks more where it is above 0.5. The better model mostly leaks more: read it beside the "
    "perplexity."
)
COLUMNS = ("attack", "first", "second", "AUROC of first", "AUROC of second", "second − first", "p (DeLong)", "p (Holm)")


@section(after="overview")
def side_by_side(findings: Findings) -> Section | None:
    """Of the strongest attacks; all folded away. None where there is a teacher, or one model, or arms of seeds."""
    single = [(entry.name, entry.runs[0]) for _, entry in findings.entries if len(entry.runs) == 1]
    if findings.group.teacher is not None or len(single) < 2:
        return None
    pairs = pairs_of(single, findings.split)
    strongest = {findings.strongest_on(entry) for _, entry in findings.entries}
    first = tuple(_row(pair) for pair in pairs if pair.attack in strongest)
    if not first:
        return None
    table = Table("side-by-side", "Under the attacks that are strongest on one of them", COLUMNS, first)
    every = Table("side-by-side-all", "Under every attack", COLUMNS, tuple(map(_row, pairs)))
    return Section(
        f"The models side by side: {findings.split}",
        tables=((findings.of_split(table), NOTE),),
        folded=((findings.of_split(every), NOTE),) if len(pairs) > len(first) else (),
    )


def _row(pair: Pair) -> tuple[Cell, ...]:
    attack, first, second, test, p_holm = pair
    return (attack, first, second, test.auroc_b, test.auroc_a, Estimate(test.diff, test.se), test.p, p_holm)
