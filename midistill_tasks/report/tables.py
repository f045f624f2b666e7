"""The figures of a comparison as tables, for people (Markdown) and for programs (CSV)."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from midistill_tasks.compare.epsilon import Epsilon
from midistill_tasks.compare.pairs import Comparison
from midistill_tasks.compare.pareto import Point
from midistill_tasks.metrics.estimate import Estimate, Interval
from midistill_tasks.results.reader import FIGURES

Cell = str | int | float | Estimate | Interval


@dataclass(frozen=True)
class Table:
    """A table whose cells are of one type a column.

    Attributes:
        name: of its CSV file.
        title: one line above it.
        columns: their names.
        rows: a cell a column; an Estimate is a value with its standard error, an Interval a value with its limits.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def markdown(self) -> str:
        """Title and table; "–" stands for NaN."""
        cells = [list(map(_in_a_cell, line)) for line in (self.columns, *(map(shown, row) for row in self.rows))]
        widths = [max(3, *map(len, column)) for column in zip(*cells, strict=True)]  # even columns, for terminals
        lines = [cells[0], ["-" * width for width in widths], *cells[1:]]
        padded = ([cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines)
        body = "\n".join(f"| {' | '.join(line)} |" for line in padded)
        return f"**{self.title}**\n\n{body}\n"

    def csv(self) -> str:
        """One line a row; an Estimate takes the columns x, x_stderr, an Interval x, x_lower, x_upper; NaN is empty."""
        kinds = self.rows[0] if self.rows else ()
        names = (
            [_names(name, cell) for name, cell in zip(self.columns, kinds, strict=True)] if kinds else [self.columns]
        )
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(chain.from_iterable(names))
        writer.writerows([_plain(value) for cell in row for value in _parts(cell)] for row in self.rows)
        return out.getvalue()


def tables(comparisons: Sequence[Comparison]) -> list[Table]:
    """The verdicts, and every figure behind them; the table over seeds only where an arm has several."""
    found = [verdicts(comparisons), attacks(comparisons), figures(comparisons)]
    if any(len(one.attacks[0].students) > 1 for one in comparisons):
        found.append(over_seeds(comparisons))
    return [*found, matrices(comparisons), agreements(comparisons)]


def verdicts(comparisons: Sequence[Comparison]) -> Table:
    """One row an arm and split."""
    rows = [
        (
            *(one.split, one.arm, one.verdict.word, one.verdict.reduction),
            *(one.verdict.teacher_attack, one.verdict.student_attack, one.verdict.scope),
        )
        for one in comparisons
    ]
    columns = ("split", "arm", "verdict", "leak reduction", "strongest on teacher", "on student", "speaks of")
    return Table(
        "verdicts", "Verdict (leak = |AUROC − 0.5| of the strongest attack; 95 % interval)", columns, tuple(rows)
    )


def attacks(comparisons: Sequence[Comparison]) -> Table:
    """AUROC of teacher and student with DeLong's paired test; one row an attack and student."""
    rows = [
        (
            *(one.split, one.arm, attack.attack, student.model, attack.teacher["auroc"], student.figures["auroc"]),
            *(Estimate(student.paired.diff, student.paired.se), student.paired.p, student.p_holm, attack.blind),
        )
        for one in comparisons
        for attack in one.attacks
        for student in attack.students
    ]
    columns = (
        *("split", "arm", "attack", "student", "teacher AUROC", "student AUROC"),
        *("student − teacher", "p (DeLong)", "p (Holm)", "blind AUROC"),
    )
    return Table("auroc", "AUROC ± standard error; the difference is paired over the same texts", columns, tuple(rows))


def figures(comparisons: Sequence[Comparison]) -> Table:
    """TPR at a low FPR and accuracies of each model."""
    shown = FIGURES[1:]
    rows: list[tuple[Cell, ...]] = []
    for one in comparisons:
        for attack in one.attacks:
            models = [(one.teacher, attack.teacher), *((student.model, student.figures) for student in attack.students)]
            rows += [
                (one.split, one.arm, attack.attack, model, *(measured[name] for name in shown))
                for model, measured in models
            ]
    title = "TPR at a low FPR, and accuracies at cross-fitted thresholds, ± standard error"
    return Table("figures", title, ("split", "arm", "attack", "model", *shown), tuple(dict.fromkeys(rows)))


def over_seeds(comparisons: Sequence[Comparison]) -> Table:
    """Means over the students of each arm that has several."""
    rows: list[tuple[Cell, ...]] = [
        (
            *(one.split, one.arm, attack.attack, len(attack.students)),
            *(attack.means[name] for name in FIGURES),
            attack.leak_reduction,
        )
        for one in comparisons
        for attack in one.attacks
        if len(attack.students) > 1
    ]
    title = "Mean over seeds, 95 % t interval (other seeds on these texts; leak reduction: other texts, too)"
    return Table("seeds", title, ("split", "arm", "attack", "seeds", *FIGURES, "leak reduction"), tuple(rows))


def matrices(comparisons: Sequence[Comparison]) -> Table:
    """The paper's two matrices, teacher × student."""
    rows: list[tuple[Cell, ...]] = []
    for one in comparisons:
        for attack in one.attacks:
            for student in attack.students:
                for what, both in (("called a member", student.predicted), ("attack right", student.right)):
                    rows += [
                        (one.split, one.arm, attack.attack, student.model, what, texts, *getattr(both, texts))
                        for texts in both._fields
                    ]
    columns = (
        *("split", "arm", "attack", "student", "what", "texts"),
        *("in both", "teacher only", "student only", "in neither"),
    )
    return Table("matrices", "Teacher × student, number of texts", columns, tuple(rows))


def agreements(comparisons: Sequence[Comparison]) -> Table:
    """Whether the student's vulnerable members are the teacher's."""
    rows = [
        (
            *(one.split, one.arm, attack.attack, student.model),
            *(student.vulnerable.jaccard, student.vulnerable.kappa, student.unscored),
        )
        for one in comparisons
        for attack in one.attacks
        for student in attack.students
    ]
    columns = ("split", "arm", "attack", "student", "Jaccard", "Cohen's kappa", "texts unscored")
    return Table("agreement", "Agreement on which members are vulnerable, ± jackknife error", columns, tuple(rows))


def epsilons(bounds: Sequence[tuple[str, Epsilon]]) -> Table:
    """One row a model and attack to which the bound applies; pairs of model and bound."""
    rows = [
        (model, one.task, one.value, f"{one.correct}/{one.guesses}", one.confidence, one.reason)
        for model, one in bounds
        if not math.isnan(one.value)
    ]
    columns = ("model", "task", "ε at least", "right guesses", "confidence", "meaning")
    return Table("epsilon", "Lower bound on ε from one training run (δ = 0)", columns, tuple(rows))


def front(split: str, points: Sequence[Point]) -> Table:
    """One row a model."""
    rows = [
        (point.model, point.leak, point.attack, Estimate(*point.utility[2:4]), "yes" if point.on_front else "no")
        for point in points
    ]
    name = f"{points[0].utility.task}/{points[0].utility.metric}" if points else "utility"
    columns = ("model", "leak", "strongest attack", name, "on the Pareto front")
    title = f"Privacy on {split} and utility (leak = |AUROC − 0.5| of the strongest attack) ± standard error"
    return Table(f"pareto_{split}", title, columns, tuple(rows))


def _in_a_cell(text: str) -> str:
    """Nothing in a text can end its cell, or be taken for HTML."""
    return " ".join(text.split()).replace("<", "&lt;").replace("|", "\\|")


def shown(cell: Cell) -> str:
    """A figure with its error or limits, as people read it; "–" for NaN."""
    if isinstance(cell, Interval) and not math.isnan(cell.lower):
        return f"{_digits(cell.value)} [{_digits(cell.lower)}, {_digits(cell.upper)}]"
    if isinstance(cell, Estimate) and not math.isnan(cell.stderr):
        return f"{_digits(cell.value)} ± {_digits(cell.stderr)}"
    value = cell[0] if isinstance(cell, (Estimate, Interval)) else cell
    return _digits(value) if isinstance(value, float) else str(value)


def _digits(value: float) -> str:
    if math.isnan(value):
        return "–"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3f}" if abs(value) >= 0.0005 or value == 0 else f"{value:.1e}"


def _parts(cell: Cell) -> tuple[str | int | float, ...]:
    return tuple(cell) if isinstance(cell, (Estimate, Interval)) else (cell,)


def _plain(value: str | int | float) -> str | int | float:
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@")):  # which spreadsheets run
        return f"'{value}"
    return "" if isinstance(value, float) and math.isnan(value) else value


def _names(name: str, cell: Cell) -> list[str]:
    ends = {Estimate: ("", "_stderr"), Interval: ("", "_lower", "_upper")}.get(type(cell), ("",))
    return [name + end for end in ends]
