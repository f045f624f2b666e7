"""What the page says of one split: figures of every model, and the teacher against each arm."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from midistill_tasks.attacks import ATTACKS
from midistill_tasks.compare.pairs import Comparison
from midistill_tasks.compare.verdict import seed_interval, share, words_tell
from midistill_tasks.metrics.estimate import Z95, Estimate, Interval
from midistill_tasks.metrics.roc import auroc
from midistill_tasks.report.figures import Dot
from midistill_tasks.results.roles import Entry, Group
from midistill_tasks.results.run import FIGURES, AttackResult
from midistill_tasks.results.table import Cell, Table

HEADINGS = {
    "auroc": "AUROC",
    "tpr_at_1pct_fpr": "TPR at 1 % FPR",
    "tpr_at_0.1pct_fpr": "TPR at 0.1 % FPR",
    "balanced_acc": "balanced accuracy",
    "member_acc": "member accuracy",
    "nonmember_acc": "non-member accuracy",
}


@dataclass(frozen=True)
class Findings:
    """One split.

    Attributes:
        split: its name.
        entries: those that were attacked on it, each with its position in the page's list.
        attacks: that ran on any of them, in the registry's order.
        first: a task of it, for what all share (texts, labels, what the labels are valid for).
        comparisons: the teacher against each arm; empty without a teacher.
    """

    split: str
    entries: tuple[tuple[int, Entry], ...]
    attacks: tuple[str, ...]
    first: AttackResult
    comparisons: tuple[Comparison, ...]

    @property
    def blind(self) -> Estimate:
        """The bag-of-words classifier's AUROC."""
        return self.first.blind

    @property
    def same_texts(self) -> bool:
        """Whether all models were attacked on the same texts with the same labels."""
        tasks = [task for _, entry in self.entries for run in entry.runs for task in run.on(self.split).values()]
        return len({task.metadata["data_sha256"] for task in tasks}) == 1

    @property
    def strongest(self) -> str:
        """The strongest attack on the first entry: the teacher where there is one."""
        return self.strongest_on(self.entries[0][1])

    def strongest_on(self, entry: Entry) -> str:
        """The attack with the largest |AUROC − 0.5|, of the mean over an arm's students."""
        leaks = {name: abs(area(entry.results(self.split, name)) - 0.5) for name in self.attacks}
        return max(leaks, key=lambda name: -1.0 if math.isnan(leaks[name]) else leaks[name])

    def blind_wins(self, value: float) -> bool:
        """Whether the classifier, above 0.5 beyond its error, does at least as well as an attack of this AUROC."""
        return words_tell(self.blind) and self.blind.value - 0.5 >= abs(value - 0.5)


def find(group: Group, split: str, comparisons: Sequence[Comparison]) -> Findings:
    """Everything about one split; `comparisons` are those of all splits."""
    present = [(n, entry) for n, entry in enumerate(group.entries) if all(split in run.splits for run in entry.runs)]
    tasks = [task for _, entry in present for run in entry.runs for task in run.on(split).values()]
    ran = {task.attack for task in tasks}
    known = [name for name in ATTACKS if name in ran]
    return Findings(
        split=split,
        entries=tuple(present),
        attacks=(*known, *sorted(ran - set(known))),
        first=tasks[0],
        comparisons=tuple(one for one in comparisons if one.split == split),
    )


def area(tasks: Sequence[AttackResult]) -> float:
    """Mean AUROC; NaN for no task."""
    return float(np.mean([auroc(task.labels, task.scores) for task in tasks])) if tasks else math.nan


def figures_table(findings: Findings) -> Table:
    """Every model under every attack, with the blind baseline beside it."""
    rows = [
        _row(findings, attack, entry, tasks, FIGURES)
        for attack in findings.attacks
        for _, entry in findings.entries
        if (tasks := entry.results(findings.split, attack))
    ]
    return Table(f"figures-{findings.split}", f"Every attack on {findings.split}", _columns(FIGURES), tuple(rows))


def strongest_table(findings: Findings) -> Table:
    """Each model under the attack that is strongest on it: the figures that a reader needs first."""
    chosen = ("auroc", "tpr_at_1pct_fpr", "balanced_acc")
    rows = []
    for _, entry in findings.entries:
        attack = findings.strongest_on(entry)
        rows.append(_row(findings, attack, entry, entry.results(findings.split, attack), chosen))
    title = "Each model under its strongest attack"
    return Table(f"strongest-{findings.split}", title, _columns(chosen), tuple(rows))


def _columns(figures: Sequence[str]) -> tuple[str, ...]:
    return ("model", "attack", "seeds", *(HEADINGS[name] for name in figures), "blind baseline AUROC", "warning")


def _row(
    findings: Findings, attack: str, entry: Entry, tasks: Sequence[AttackResult], figures: Sequence[str]
) -> tuple[Cell, ...]:
    warning = "⚠ blind wins" if findings.blind_wins(area(tasks)) else ""
    figured = (_figure(tasks, name) for name in figures)
    return (entry.name, attack, len(tasks), *figured, interval(findings.blind), warning)


def figures_note(findings: Findings) -> str:
    """How to read `figures_table`."""
    labels = findings.first.labels
    tasks = [task for _, entry in findings.entries for run in entry.runs for task in run.on(findings.split).values()]
    most = max(int(np.isnan(task.scores).sum()) for task in tasks)
    unscored = f" Up to {most} of these texts have no score under an attack and do not count there." if most else ""
    return (
        "Value [95 % interval]: over texts, with several seeds over seeds, too, around their mean. AUROC 0.5 is no "
        "leak, and 0.3 leaks as much as 0.7. Accuracies by a threshold chosen on the "
        "other half of the texts. A rate needs 1/FPR non-members, else it is –. "
        f"{labels.sum()} members, {(~labels).sum()} non-members.{unscored}"
    )


def interval(estimate: Estimate) -> Interval:
    """Of a share, at 95 %."""
    half = Z95 * estimate.stderr
    return share(Interval(estimate.value, estimate.value - half, estimate.value + half))


def _figure(tasks: Sequence[AttackResult], name: str) -> Interval:
    """95 %: over texts and, for several models, over seeds, in quadrature; cut at 0 and 1, as all are shares."""
    values, errors = zip(*(task.measured[name] for task in tasks), strict=True)
    seeds = seed_interval(values)
    half = Z95 * float(np.mean(errors))
    if len(tasks) > 1:
        half = math.hypot(half, seeds.upper - seeds.value)
    return share(Interval(seeds.value, seeds.value - half, seeds.value + half))


def dots(findings: Findings) -> list[tuple[str, list[Dot]]]:
    """The AUROCs, for the chart."""
    return [
        (
            attack,
            [
                _dot(n, entry.name, tasks)
                for n, entry in findings.entries
                if (tasks := entry.results(findings.split, attack))
            ],
        )
        for attack in findings.attacks
    ]


def _dot(position: int, name: str, tasks: Sequence[AttackResult]) -> Dot:
    singles = tuple(task.measured["auroc"].value for task in tasks) if len(tasks) > 1 else ()
    return Dot(name, position, _figure(tasks, "auroc"), singles)
