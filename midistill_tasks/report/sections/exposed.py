"""The members that most attacks find in the first model, masked unless asked for."""

from __future__ import annotations

from collections.abc import Mapping, Set

from midistill_tasks.compare.vulnerability import Exposed, most_exposed
from midistill_tasks.report.findings import Findings
from midistill_tasks.report.masking import mask
from midistill_tasks.report.page import Section
from midistill_tasks.report.sections import section
from midistill_tasks.report.svg import COLOURS
from midistill_tasks.results.roles import Entry
from midistill_tasks.results.table import Cell, Table

TEXTS = 20
"""Most exposed texts shown."""
MASKED_LENGTH = 300
"""Characters shown of one."""
COLUMNS = ("text", "found by", "non-members below it", "also found in", "id")


@section(after="matrices")
def exposed(findings: Findings) -> Section:
    """A row a text, and in which of the other models it is found, too."""
    show_texts = findings.settings.show_texts
    _, first = findings.entries[0]
    results = list(first.runs[0].on(findings.split).values())
    others = {entry.name: _found_in(entry, findings.split) for _, entry in findings.entries[1:][:COLOURS]}
    rows = tuple(_row(text, len(results), others, show_texts) for text in most_exposed(results)[:TEXTS])
    table = Table("exposed", f"The {len(rows)} most exposed members under {first.name}", COLUMNS, rows)
    judged = {item.id for item in results[0].items if item.label == 1}
    shares = ", ".join(f"{len(ids & judged) / len(judged):.0%} in {name}" for name, ids in others.items())
    note = (
        "Found by: attacks that call it a member. Also found in: models in which at least half of the attacks (over "
        f"all seeds) call it a member{f'; of all members these are {shares}' if shares else ''}. The id is the "
        "beginning of the text's SHA-256."
    ) + ("" if show_texts else " Letters and digits are hidden; --show-texts shows them.")
    return Section(f"The most exposed texts of {findings.split}", tables=((findings.of_split(table), note),))


def _row(member: Exposed, attacks: int, others: Mapping[str, Set[str]], show_texts: bool) -> tuple[Cell, ...]:
    also = [name for name, ids in others.items() if member.id in ids]
    return (
        _words(member.text, show_texts),
        f"{len(member.found_by)} of {attacks}: {', '.join(member.found_by) or 'none'}",
        f"{100 * member.above_nonmembers:.1f} %",
        ", ".join(also) or "none",
        member.id,
    )


def _words(text: str | None, show_texts: bool) -> str:
    if text is None:
        return "(the run kept no texts)"
    if show_texts:
        return text
    masked = mask(text)
    return masked if len(masked) <= MASKED_LENGTH else f"{masked[:MASKED_LENGTH]} …"


def _found_in(entry: Entry, split: str) -> set[str]:
    """The members that at least half the attacks, over all seeds, call members."""
    decisions: dict[str, list[bool]] = {}
    for run in entry.runs:
        for result in run.on(split).values():
            for item, called in zip(result.items, result.decisions.tolist(), strict=True):
                if item.label == 1:
                    decisions.setdefault(item.id, []).append(called)
    return {name for name, called in decisions.items() if 2 * sum(called) >= len(called)}
