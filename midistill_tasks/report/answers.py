"""Many answers as one table: a row an answer, what all of them say once below it, the perplexity beside each."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import NamedTuple

import numpy as np

from midistill_tasks.compare.pairs import Comparison
from midistill_tasks.compare.pareto import shared_perplexity
from midistill_tasks.compare.verdict import strongest_on
from midistill_tasks.metrics.estimate import Estimate, Interval
from midistill_tasks.report.findings import Findings, interval
from midistill_tasks.report.page import Statement
from midistill_tasks.results.roles import Entry, Group
from midistill_tasks.results.run import Run
from midistill_tasks.results.table import Cell, Table, shown
from midistill_tasks.results.utility import with_error

FEW = 2
"""So many answers stand as they are, without a table."""

ANSWERS = "The answers, in one table (leak = |AUROC − 0.5| of the strongest attack; 95 % intervals)"

_END = re.compile(r"(?<=[.!?]) (?=[A-Z])")


class Perplexity(NamedTuple):
    """Of a model, or the mean over an arm's students.

    Attributes:
        name: metric and task.
        shared: whether it is the one of all models of the page.
        own, teacher: with standard errors; no teacher = this is it, or there is none.
    """

    name: str
    shared: bool
    own: Estimate
    teacher: Estimate | None

    @property
    def words(self) -> str:
        """For a line of its own."""
        beside = f"; teacher {shown(self.teacher)}" if self.teacher else ""
        return f"{self.name}: {shown(self.own)}{beside}"

    @property
    def cells(self) -> tuple[tuple[str, Cell], ...]:
        """For a table: figures where all rows have the same one, else words."""
        if not self.shared:
            return (("perplexity", self.words),)
        return ((self.name, self.own), *([("of teacher", self.teacher)] if self.teacher else []))


def with_figures(said: Sequence[Statement], splits: Sequence[Findings]) -> tuple[Statement, ...]:
    """The statements of `lead.statements`, in their order, each with its figures and its model's perplexity."""
    group = splits[0].group
    entries = {entry.name: entry for entry in group.entries}
    compared = [
        (entries[each.arm], (*_at_equal_perplexity(each, findings), *_compared(each)))
        for findings in splits
        for each in findings.comparisons
    ]
    about = compared or [(entry, _alone(entry, findings.split)) for findings in splits for _, entry in findings.entries]
    beside = perplexities(group, {entry.name: entry for entry, _ in about})
    lacking = (("perplexity", "–"),) if any(beside.values()) else ()
    dressed = []
    for statement, (entry, figures) in zip(said, about, strict=True):
        found = beside[entry.name]
        cells = (*figures, *(found.cells if found else lacking))
        dressed.append(replace(statement, figures=cells, perplexity=found.words if found else ""))
    return tuple(dressed)


def _at_equal_perplexity(comparison: Comparison, findings: Findings) -> tuple[tuple[str, Cell], ...]:
    """Two cells on a page with a frontier."""
    if findings.group.frontier is None:
        return ()
    found = next((each for each in findings.against if each.arm == comparison.arm), None)
    reduction = found.reduction if found else Interval(math.nan, math.nan, math.nan)
    return (
        ("than a vanilla student of its perplexity", found.word if found else "–"),
        ("reduction at its perplexity", reduction),
    )


def _compared(comparison: Comparison) -> tuple[tuple[str, Cell], ...]:
    _, _, _, reduction, on_teacher, on_student, _ = comparison.verdict
    attacks = {attack.attack: attack for attack in comparison.attacks}
    before, after = attacks[on_teacher].teacher["auroc"].value, attacks[on_student].means["auroc"].value
    return (
        ("leak reduction", reduction),
        ("strongest on teacher, AUROC", f"{on_teacher} {before:.3f}"),
        ("strongest on arm, AUROC", f"{on_student} {after:.3f}"),
    )


def _alone(entry: Entry, split: str) -> tuple[tuple[str, Cell], ...]:
    found = strongest_on(entry.name, entry.on(split))
    return (("strongest attack", found.attack), ("AUROC", found.area), ("blind baseline AUROC", interval(found.blind)))


def perplexities(group: Group, entries: Mapping[str, Entry]) -> dict[str, Perplexity | None]:
    """By name; the one that all runs of the page share, else one of a model's and its teacher's; None where is none.

    Its error is one over documents: that of a mean over students is at most the mean of theirs, which read the same.
    """
    shared = shared_perplexity(group.runs)
    before = () if group.teacher is None else group.teacher.runs
    of_teacher = cache(lambda name: _mean(before, name))  # reads samples

    def of(entry: Entry) -> Perplexity | None:
        beside = () if entry is group.teacher else before
        name = shared or shared_perplexity([*entry.runs, *beside])
        if name is None:
            return None
        figure = entry.runs[0].utility[name]
        called = f"{figure.metric.replace('_', ' ')} on {figure.task}"
        return Perplexity(called, bool(shared), _mean(entry.runs, name), of_teacher(name) if beside else None)

    return {name: of(entry) for name, entry in entries.items()}


def _mean(runs: Sequence[Run], name: str) -> Estimate:
    each = [with_error(run, run.utility[name]) for run in runs]
    return Estimate(float(np.mean([one.value for one in each])), float(np.mean([one.stderr for one in each])))


def table(said: Sequence[Statement]) -> Table | None:
    """A row an answer; None where they are few."""
    columns = {tuple(name for name, _ in statement.figures) for statement in said}
    if len(said) <= FEW or len(columns) != 1:
        return None
    (names,) = columns
    first = "arm" if "leak reduction" in names else "model"
    rows = tuple((each.about, each.word, *(cell for _, cell in each.figures)) for each in said)
    return Table("answers", ANSWERS, (first, "answer", *names), rows)


def common(said: Sequence[Statement]) -> str:
    """The sentences that are in all answers, so that they are read once."""
    first, *others = [_END.split(statement.sentence) for statement in said]
    return " ".join(sentence for sentence in first if all(sentence in other for other in others)) if others else ""


def without(said: Sequence[Statement], shared: str) -> tuple[Statement, ...]:
    """The answers without what all of them say."""
    leave = set(_END.split(shared))
    return tuple(
        replace(each, sentence=" ".join(part for part in _END.split(each.sentence) if part not in leave))
        for each in said
    )
