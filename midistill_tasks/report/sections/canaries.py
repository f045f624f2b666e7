"""Planted canaries: what is proven about ε and what is not, in plain words, and the figures by number of repeats."""

from __future__ import annotations

import math
from dataclasses import replace

from midistill_tasks.compare.canaries import Group, by_repeats, repeats_of
from midistill_tasks.compare.epsilon import IF_REFERENCE, Epsilon, epsilons, rounded_down, why_no_bound
from midistill_tasks.report.findings import Findings
from midistill_tasks.report.page import Section
from midistill_tasks.report.sections import section
from midistill_tasks.results.roles import Entry
from midistill_tasks.results.table import Cell, Table

SPLIT = "canaries"
NOT_PROVEN = (
    "What is not proven: that a model is private. A low bound or none says that these attacks, with so many of these "
    "canaries, showed no more; stronger canaries (kind rare), more of them, or another attack may. Nor is it proven "
    "what the model remembers of any other text. The bound speaks of the training as it was done, and rests on the "
    "coins: inserted canaries were trained on, held-out ones by nobody (`midistill canaries verify` looks into the "
    "training data)."
)
REPEATED = (
    "A canary counts as one here, with all its repeats. For a promise about single lines of the training data, "
    "divide: a training that is ε-private by lines is (repeats · ε)-private by canaries. The table does so."
)
NOTE = (
    "Inserted canaries against held-out ones of the same group; the groups were drawn apart from the coins. Exposure:"
    " log2 of the number of candidates (the canary and all held-out ones) minus log2 of its rank among them, mean "
    "over inserted ones; 1.44 bits where nothing leaked. All bounds of this table have one confidence, at which they "
    "hold together at 95 %; – = no bound, as where a group has fewer than 100 canaries, or an attack knows labels; 0 "
    "= no evidence."
)
COLUMNS = (
    *("model", "attack", "repeats", "inserted", "held out", "AUROC", "TPR at 1 % FPR", "exposure, bits"),
    *("ε of a canary, at least", "ε of a line, at least", "right guesses", "confidence"),
)


@section(after="epsilon")
def canaries(findings: Findings) -> Section | None:
    """Nothing on splits whose texts are no canaries."""
    if findings.split != SPLIT or not any(result.groups for result in findings.results):
        return None
    often = {repeats for result in findings.results for repeats in repeats_of(result)}
    said = _said(findings)
    text = (*said, *([REPEATED] if max(often) > 1 else []), NOT_PROVEN)
    rows = _rows(findings)
    strongest = {entry.name: _strongest(findings, entry) for _, entry in findings.entries}
    of_strongest = tuple(row for name, row in rows if row[1] == strongest[name])
    title = "Canaries by the number of their repeats"
    shown = Table(
        f"repeats_{SPLIT}", f"{title}: the strongest attack with a bound on each model", COLUMNS, of_strongest
    )
    everything = Table(f"repeats_{SPLIT}_all", f"{title}: all attacks", COLUMNS, tuple(row for _, row in rows))
    return Section("What the planted canaries prove", text, tables=((shown, NOTE),), folded=((everything, NOTE),))


def _strongest(findings: Findings, entry: Entry) -> str:
    """The strongest attack of those that have a bound; of all, where none has."""
    results = [result for run in entry.runs for result in run.on(findings.split).values()]
    bounded = {result.attack for result in results if not why_no_bound(result)} or set(findings.attacks)
    return replace(findings, attacks=tuple(name for name in findings.attacks if name in bounded)).strongest_on(entry)


def _said(findings: Findings) -> list[str]:
    """A sentence on each model: its largest bound, all of which hold together."""
    bounds = iter(epsilons(findings.runs, findings.split))
    said = []
    for _, entry in findings.entries:
        found = [bound for _ in entry.runs for bound in next(bounds)]
        known = [bound for bound in found if not math.isnan(bound.value)]
        if known:
            said.append(_proven(entry.name, max(known, key=lambda bound: (bound.value, bound.correct))))
        else:
            reasons = sorted({bound.reason for bound in found})
            said.append(f"Of {entry.name} nothing is proven; there is {'; there is '.join(reasons)}.")
    return said


def _proven(name: str, bound: Epsilon) -> str:
    guesses = f"{bound.correct} of {bound.guesses} guesses by {bound.task}"
    if not bound.value:
        return f"Of {name} nothing is proven about ε: {guesses} are right, which is not beyond chance."
    more = " So many guesses cannot show more." if bound.correct == bound.guesses else ""
    more += f" This is {IF_REFERENCE}." if IF_REFERENCE in bound.reason else ""
    return (
        f"Proven of {name}: with 95 % confidence, no training of this kind can be (ε, 0)-differentially private with ε "
        f"below {rounded_down(bound.value)}, since {guesses}, which canaries it was trained on and which "
        f"not, are right.{more}"
    )


def _rows(findings: Findings) -> list[tuple[str, tuple[Cell, ...]]]:
    """Name of the entry, and the row."""
    found = iter(by_repeats(findings.runs, findings.split))
    return [
        (entry.name, _row(run.model, result.attack, group))
        for _, entry in findings.entries
        for run in entry.runs
        for result, group in next(found)
    ]


def _row(model: str, attack: str, group: Group) -> tuple[Cell, ...]:
    bound = group.epsilon
    guessed = f"{bound.correct}/{bound.guesses}" if bound.guesses else ""
    return (
        *(model, attack, group.repeats, group.inserted, group.held_out, group.auroc, group.tpr, group.exposure),
        *(bound.value, bound.value / group.repeats, guessed, f"{bound.confidence:.2%}" if bound.guesses else ""),
    )
