"""The figures of a comparison as tables."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from midistill_tasks.compare.epsilon import DELTA, Epsilon
from midistill_tasks.compare.pairs import ComparedAttack, Comparison
from midistill_tasks.compare.pareto import Point
from midistill_tasks.metrics.estimate import Estimate
from midistill_tasks.results.run import FIGURES
from midistill_tasks.results.table import Cell, Table


def tables(comparisons: Sequence[Comparison]) -> list[Table]:
    """The verdicts, and every figure behind them; the table over seeds only where an arm has several."""
    made = [verdicts(comparisons), attacks(comparisons), figures(comparisons)]
    if any(len(comparison.attacks[0].students) > 1 for comparison in comparisons):
        made.append(over_seeds(comparisons))
    return [*made, matrices(comparisons), agreements(comparisons)]


def verdicts(comparisons: Sequence[Comparison]) -> Table:
    """A row an arm and split."""
    rows: list[tuple[Cell, ...]] = []
    for comparison in comparisons:
        word, scope, _, reduction, teacher_attack, student_attack, p = comparison.verdict
        rows.append((comparison.split, comparison.arm, word, reduction, p, teacher_attack, student_attack, scope))
    columns = ("split", "arm", "verdict", "leak reduction", "p", "strongest on teacher", "on student", "speaks of")
    return Table(
        "verdicts", "Verdict (leak = |AUROC − 0.5| of the strongest attack; 95 % interval)", columns, tuple(rows)
    )


def attacks(comparisons: Sequence[Comparison]) -> Table:
    """AUROC of teacher and student with DeLong's paired test; a row an attack and student."""
    rows = [
        (
            *(*key, student.model, attack.teacher["auroc"], student.figures["auroc"]),
            *(Estimate(student.paired.diff, student.paired.se), student.paired.p, student.p_holm, attack.blind),
        )
        for key, attack in _by_attack(comparisons)
        for student in attack.students
    ]
    columns = (
        *("split", "arm", "attack", "student", "teacher AUROC", "student AUROC"),
        *("student − teacher", "p (DeLong)", "p (Holm)", "blind AUROC"),
    )
    return Table("auroc", "AUROC ± standard error; the difference is paired over the same texts", columns, tuple(rows))


def figures(comparisons: Sequence[Comparison]) -> Table:
    """TPR at a low FPR and accuracies of each model."""
    names = FIGURES[1:]
    rows: list[tuple[Cell, ...]] = []
    for comparison in comparisons:
        for key, attack in _by_attack([comparison]):
            students = [(student.model, student.limits) for student in attack.students]
            rows += [
                (*key, model, *(measured[name] for name in names))
                for model, measured in ((comparison.teacher, attack.teacher_limits), *students)
            ]
    title = "TPR at a low FPR, and accuracies at cross-fitted thresholds, with 95 % intervals"
    return Table("figures", title, ("split", "arm", "attack", "model", *names), tuple(dict.fromkeys(rows)))


def over_seeds(comparisons: Sequence[Comparison]) -> Table:
    """Means over the students of each arm that has several."""
    rows: list[tuple[Cell, ...]] = [
        (*key, len(attack.students), *(attack.means[name] for name in FIGURES), attack.leak_reduction)
        for key, attack in _by_attack(comparisons)
        if len(attack.students) > 1
    ]
    title = "Mean over seeds, 95 % interval for other texts and, from three seeds on, other seeds"
    return Table("seeds", title, ("split", "arm", "attack", "seeds", *FIGURES, "leak reduction"), tuple(rows))


def matrices(comparisons: Sequence[Comparison]) -> Table:
    """The paper's two matrices, teacher × student."""
    rows: list[tuple[Cell, ...]] = [
        (*key, student.model, what, texts, *matrix)
        for key, attack in _by_attack(comparisons)
        for student in attack.students
        for what, both in (("called a member", student.predicted), ("attack right", student.right))
        for texts, matrix in both._asdict().items()
    ]
    columns = (
        *("split", "arm", "attack", "student", "what", "texts"),
        *("in both", "teacher only", "student only", "in neither"),
    )
    return Table("matrices", "Teacher × student, number of texts", columns, tuple(rows))


def agreements(comparisons: Sequence[Comparison]) -> Table:
    """Whether the student's vulnerable members are the teacher's."""
    rows = [
        (*key, student.model, student.vulnerable.jaccard, student.vulnerable.kappa, student.unscored)
        for key, attack in _by_attack(comparisons)
        for student in attack.students
    ]
    columns = ("split", "arm", "attack", "student", "Jaccard", "Cohen's kappa", "texts unscored")
    return Table("agreement", "Agreement on which members are vulnerable, ± standard error", columns, tuple(rows))


def _by_attack(comparisons: Sequence[Comparison]) -> Iterator[tuple[tuple[str, str, str], ComparedAttack]]:
    """Each attack of each comparison, with its split, arm and id."""
    for comparison in comparisons:
        for attack in comparison.attacks:
            yield (comparison.split, comparison.arm, attack.attack), attack


def epsilons(bounds: Sequence[tuple[str, Epsilon]]) -> Table:
    """One row a model and attack to which the bound applies; pairs of model and bound."""
    rows = [
        (
            *(model, bound.task, bound.value, bound.at_delta, f"{bound.correct}/{bound.guesses}", bound.ceiling),
            *(f"{bound.confidence:.2%}", bound.reason),
        )
        for model, bound in bounds
        if not math.isnan(bound.value)
    ]
    columns = (
        *("model", "task", "ε at least, δ = 0", f"δ = {DELTA:.0e}", "right guesses", "ceiling (all right, δ = 0)"),
        *("confidence", "what it says"),
    )
    return Table("epsilon", "Lower bound on ε from one training run", columns, tuple(rows))


def front(split: str, points: Sequence[Point]) -> Table:
    """One row a model."""
    rows = [
        (point.model, point.leak, point.attack, point.utility.estimate, "yes" if point.on_front else "no")
        for point in points
    ]
    name = f"{points[0].utility.task}/{points[0].utility.metric}" if points else "utility"
    columns = ("model", "leak", "strongest attack", name, "on the Pareto front")
    title = f"Privacy on {split} and utility (leak = |AUROC − 0.5| of the strongest attack) ± standard error"
    return Table(f"pareto_{split}", title, columns, tuple(rows))
