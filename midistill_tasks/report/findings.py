"""What the page says of one split: figures of every model, and the teacher against each arm."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from midistill_tasks.attacks import ATTACKS
from midistill_tasks.compare.controls import Controlled, against_controls
from midistill_tasks.compare.family import settled, settled_alone
from midistill_tasks.compare.frontier.against import Against, against_frontier
from midistill_tasks.compare.pairs import Comparison, compare, compare_ensembles
from midistill_tasks.compare.verdict import alone
from midistill_tasks.compare.wording import Alone
from midistill_tasks.metrics.blind import shifted
from midistill_tasks.metrics.estimate import Z95, Estimate, Interval, share
from midistill_tasks.metrics.roc import auroc
from midistill_tasks.results.roles import Entry, Group
from midistill_tasks.results.run import AttackResult, Run
from midistill_tasks.results.table import Table


@dataclass(frozen=True)
class Settings:
    """What was asked of the page.

    Attributes:
        show_texts: the most exposed texts as they are, not masked.
        utility: ``task/metric`` for the chart of privacy and utility; None = the first perplexity that all runs have.
    """

    show_texts: bool = False
    utility: str | None = None


@dataclass(frozen=True)
class Findings:
    """One split.

    Attributes:
        split: its name.
        entries: those that were attacked on it, each with its position in the page's list.
        attacks: that ran on any of them, in the registry's order.
        first: a result on it, for what all share (texts, labels, what the labels are valid for).
        comparisons: the teacher against each arm; empty without a teacher. Their words, and those of the next two, hold
            among all answers of the page.
        controlled: the interventions against their controls.
        against: the arms of a study against the vanilla students of their perplexity; empty without a frontier.
        ensembles: the teacher against each arm of several students together.
        group: all models of the page, on all splits.
        settings: what was asked of the page.
        alone: the answer on each of the entries, by name, on a page without comparisons; it holds among all answers.
    """

    split: str
    entries: tuple[tuple[int, Entry], ...]
    attacks: tuple[str, ...]
    first: AttackResult
    comparisons: tuple[Comparison, ...]
    controlled: tuple[Controlled, ...]
    ensembles: tuple[Comparison, ...]
    group: Group
    settings: Settings
    against: tuple[Against, ...] = ()
    alone: Mapping[str, Alone] = field(default_factory=dict)

    @property
    def named(self) -> list[tuple[int, str]]:
        """Position and name of each entry, as charts and legends take them."""
        return [(position, entry.name) for position, entry in self.entries]

    @property
    def runs(self) -> list[Run]:
        """Of all entries."""
        return [run for _, entry in self.entries for run in entry.runs]

    @property
    def results(self) -> list[AttackResult]:
        """Of all attacks on all runs."""
        return [result for run in self.runs for result in run.on(self.split).values()]

    @property
    def blind(self) -> Estimate:
        """The bag-of-words classifier's AUROC."""
        return self.first.blind

    @property
    def same_texts(self) -> bool:
        """Whether all models were attacked on the same texts with the same labels."""
        return len({result.metadata["data_sha256"] for result in self.results}) == 1

    @property
    def strongest(self) -> str:
        """The strongest attack on the first entry: the teacher where there is one."""
        return self.strongest_on(self.entries[0][1])

    def strongest_on(self, entry: Entry) -> str:
        """The attack with the largest |AUROC − 0.5|, of the mean over an arm's students and of those in `Entry.on`."""
        of_entry = entry.on(self.split)[0]
        judged = [name for name in self.attacks if name in of_entry] or self.attacks
        leaks = {name: abs(area(entry.results(self.split, name)) - 0.5) for name in judged}
        return max(leaks, key=lambda name: -1.0 if math.isnan(leaks[name]) else leaks[name])

    def blind_wins(self, value: float) -> bool:
        """Whether the classifier does at least as well as an attack of this AUROC, where coins did not choose."""
        coins = self.first.metadata["independent_coins"]
        return not coins and self.blind.value - 0.5 >= abs(value - 0.5)

    @property
    def words_tell(self) -> bool:
        """Whether the classifier tells the sides apart beyond its error, where coins did not choose the members."""
        return not self.first.metadata["independent_coins"] and shifted(self.blind)

    def of_split(self, table: Table) -> Table:
        """The table under a name of its own, for a page of several splits."""
        return replace(table, name=f"{table.name}-{self.split}")


class Answers(NamedTuple):
    """Of a whole page, on all splits, settled among each other."""

    comparisons: Sequence[Comparison]
    controlled: Sequence[Controlled]
    ensembles: Sequence[Comparison]
    against: Sequence[Against] = ()
    alone: Mapping[str, Mapping[str, Alone]] = {}
    """By split and name."""


def answer(group: Group) -> Answers:
    """Teacher and arms, arms and controls, teacher and ensembles, arms and the frontier; else each model alone.

    Raises:
        InputError: where runs cannot be compared, see `compare`.
    """
    arms = {entry.name: entry.runs for entry in group.arms}
    compared = compare(group.teacher_run, arms) if group.teacher and arms else []
    several = {name: runs for name, runs in arms.items() if len(runs) > 1}
    ensembles = compare_ensembles(group.teacher_run, several) if group.teacher and several else []
    controlled = [each for split in group.splits for each in against_controls(group, split)]
    frontier = [each for split in group.splits for each in against_frontier(group, split)]
    said, beside, against = settled([*compared, *ensembles], controlled, frontier)
    return Answers(said[: len(compared)], beside, said[len(compared) :], against, {} if compared else _alone(group))


def _alone(group: Group) -> dict[str, dict[str, Alone]]:
    about = [(split, entry) for split in group.splits for _, entry in _present(group, split)]
    said = settled_alone([alone(entry.name, entry.on(split)) for split, entry in about])
    by_split: dict[str, dict[str, Alone]] = {}
    for (split, entry), one in zip(about, said, strict=True):
        by_split.setdefault(split, {})[entry.name] = one
    return by_split


def _present(group: Group, split: str) -> list[tuple[int, Entry]]:
    """The entries that were attacked on a split, each with its position in the page's list."""
    return [(n, entry) for n, entry in enumerate(group.entries) if entry.attacks(split)]


def find(group: Group, split: str, answers: Answers, settings: Settings) -> Findings:
    """Everything about one split; `answers` are those of all splits."""
    present = _present(group, split)
    results = [result for _, entry in present for run in entry.runs for result in run.on(split).values()]
    ran = {result.attack for result in results}
    known = [name for name in ATTACKS if name in ran]
    return Findings(
        split=split,
        entries=tuple(present),
        attacks=(*known, *sorted(ran - set(known))),
        first=results[0],
        comparisons=tuple(comparison for comparison in answers.comparisons if comparison.split == split),
        controlled=tuple(controlled for controlled in answers.controlled if controlled.split == split),
        ensembles=tuple(comparison for comparison in answers.ensembles if comparison.split == split),
        group=group,
        settings=settings,
        against=tuple(against for against in answers.against if against.split == split),
        alone=answers.alone.get(split, {}),
    )


def area(results: Sequence[AttackResult]) -> float:
    """Mean AUROC; NaN for no result."""
    return float(np.mean([auroc(result.labels, result.scores) for result in results])) if results else math.nan


def interval(estimate: Estimate) -> Interval:
    """Of a share, at 95 %."""
    half = Z95 * estimate.stderr
    return share(Interval(estimate.value, estimate.value - half, estimate.value + half))
