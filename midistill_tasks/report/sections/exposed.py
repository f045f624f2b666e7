"""The members that most attacks find in the first model, masked unless asked for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set

from midistill_tasks.compare.verdict import strongest_on
from midistill_tasks.compare.vulnerability import Exposed, most_exposed
from midistill_tasks.report.findings import Findings
from midistill_tasks.report.masking import mask
from midistill_tasks.report.page import Section
from midistill_tasks.report.sections import section
from midistill_tasks.report.svg import COLOURS
from midistill_tasks.results.roles import Entry
from midistill_tasks.results.run import AttackResult
from midistill_tasks.results.table import Cell, Table

TEXTS = 20
"""Most exposed texts shown."""
MASKED_LENGTH = 120
"""Characters shown of one: a line."""
NO_LEAK = (
    "No leak was found here. Some texts always stand highest, so this list says of none of them that the model "
    "remembers it."
)


@section(after="matrices")
def exposed(findings: Findings) -> Section:
    """A row a text, and in which of the other models it is found, too; every member in the CSV file."""
    show_texts = findings.settings.show_texts
    _, first = findings.entries[0]
    strongest = findings.strongest
    results = list(first.runs[0].on(findings.split).values())
    others = {entry.name: _found_in(entry, findings.split) for _, entry in findings.entries[1:]}
    members = most_exposed(results, strongest)
    named = any(member.name for member in members)
    on_page = dict(list(others.items())[:COLOURS])
    table = Table(
        "most-exposed",
        f"The {min(TEXTS, len(members))} most exposed members under {first.runs[0].model}",
        ("rank", "name" if named else "id", "text", f"non-members below it ({strongest})", "found by", "also found in"),
        tuple(_row(member, len(results), on_page, show_texts) for member in members[:TEXTS]),
    )
    leaks = _leaks(findings, first)
    every_member = findings.of_split(_every_member(members, results, others, leaks))
    note = _note(results, on_page, len(others) - len(on_page), every_member.file, show_texts)
    shown = ((findings.of_split(table), note),)
    return Section(
        f"The most exposed texts of {findings.split}",
        text=() if leaks else (NO_LEAK,),
        tables=shown if leaks else (),
        folded=() if leaks else shown,
        files=(every_member,),
    )


def _leaks(findings: Findings, entry: Entry) -> bool:
    """As the page's answer says; beside a teacher, of which no answer is given alone, by the same rule."""
    if entry.name in findings.alone:
        return findings.alone[entry.name].word == "leaks"
    return strongest_on(entry.name, entry.on(findings.split)).leaks


def _note(
    results: Sequence[AttackResult], others: Mapping[str, Set[str]], more: int, file: str, show_texts: bool
) -> str:
    judged = {item.id for item in results[0].items if item.label == 1}
    shares = ", ".join(f"{len(ids & judged) / len(judged):.0%} in {name}" for name, ids in others.items())
    left_out = len(results[0].metadata.get("members_left_out", ())) + int(
        results[0].metadata.get("members_left_out_more", 0)
    )
    not_judged = f" {left_out} members were not judged: the file names them, with the reason." if left_out else ""
    which = f"of the first {COLOURS} other models those" if more else "models"
    found = f"; of all members these are {shares}" if shares else ""
    with_all = f", with all {len(others) + more} other models" if more else ""
    return (
        "Rank: by the share of non-members below it under the strongest attack, then by the number of attacks that "
        f"call it a member. Also found in: {which} in which at least half of the attacks (over all seeds) call it one"
        f"{found}. Every member stands in {file} beside this page{with_all}.{not_judged}"
    ) + ("" if show_texts else " Letters and digits are hidden; --show-texts shows them.")


def _row(member: Exposed, attacks: int, others: Mapping[str, Set[str]], show_texts: bool) -> tuple[Cell, ...]:
    return (
        member.rank,
        member.name or member.id,
        _words(member.text, show_texts),
        _percent(member.percentile),
        f"{len(member.found_by)} of {attacks}: {', '.join(member.found_by) or 'none'}",
        ", ".join(_also(member, others)) or "none",
    )


def _percent(share: float) -> str:
    return "–" if math.isnan(share) else f"{100 * share:.1f} %"


def _also(member: Exposed, others: Mapping[str, Set[str]]) -> list[str]:
    return [name for name, ids in others.items() if member.id in ids]


def _every_member(
    members: Sequence[Exposed], results: Sequence[AttackResult], others: Mapping[str, Set[str]], leaks: bool
) -> Table:
    """A row a member, those that were not judged last; no words of theirs. Whoever has the file alone reads in each row
    whether a leak was found at all: some text always stands highest."""
    unscored = "; ".join(dict.fromkeys(why for result in results for why in result.metadata["unscored_reasons"]))
    rows: list[tuple[Cell, ...]] = [
        (
            *(str(member.rank), member.name or "", member.id, member.percentile, len(member.found_by)),
            *(", ".join(member.found_by), ", ".join(_also(member, others))),
            unscored if math.isnan(member.percentile) else "",
        )
        for member in members
    ]
    about = results[0].metadata
    rows += [
        ("", str(each["name"]), "", math.nan, 0, "", "", str(each["reason"]))
        for each in about.get("members_left_out", ())
    ]
    if more := about.get("members_left_out_more"):
        rows.append(("", f"and {more} more", "", math.nan, 0, "", "", "the results name the first 1,000 only"))
    columns = (
        *("rank", "name", "id", "share_of_nonmembers_below", "attacks_that_find_it"),
        *("found_by", "also_found_in", "not_judged", "leak_found"),
    )
    found = "yes" if leaks else "no"
    return Table("exposed", "Every member", columns, tuple((*row, found) for row in rows))


def _words(text: str | None, show_texts: bool) -> str:
    if text is None:
        return "(the run kept no texts)"
    if show_texts:
        return text
    masked = " ".join(mask(text).split())
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
