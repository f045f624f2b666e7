"""Teacher against student: every attack on both, on the same texts matched by id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from midistill_tasks.compare.ensemble import decided, majority, mean_score
from midistill_tasks.compare.seeds import over_seeds
from midistill_tasks.compare.verdict import Reduction, Verdict, holm, verdict
from midistill_tasks.compare.vulnerability import Agreement, Matrices, agreement, predicted, right
from midistill_tasks.errors import InputError
from midistill_tasks.metrics.estimate import Estimate, Interval
from midistill_tasks.metrics.roc import PairedTest, delong_paired
from midistill_tasks.results import matching
from midistill_tasks.results.run import FIGURES, AttackResult, Run


@dataclass(frozen=True)
class ComparedStudent:
    """One attack on one student, beside the same attack on its teacher.

    Attributes:
        model: the student's name.
        figures: `FIGURES` → value and standard error.
        limits: `FIGURES` → value and 95 % limits.
        paired: DeLong's test; a = student, b = teacher, so that `diff` = student − teacher.
        p_holm: its p, adjusted for the number of attacks on this student (Holm 1979).
        predicted: called a member, teacher × student.
        right: the attack is right, teacher × student.
        vulnerable: how far both agree on which members are found.
        unscored: texts without a score in one of the runs that are compared; every figure here leaves them out.
    """

    model: str
    figures: Mapping[str, Estimate]
    limits: Mapping[str, Interval]
    paired: PairedTest
    p_holm: float
    predicted: Matrices
    right: Matrices
    vulnerable: Agreement
    unscored: int


@dataclass(frozen=True)
class ComparedAttack:
    """One attack on a teacher and on the students of an arm.

    Attributes:
        attack: its id.
        teacher: `FIGURES` → value and standard error.
        teacher_limits: `FIGURES` → value and 95 % limits.
        students: one for each seed.
        means: `FIGURES` → mean over students and its 95 % interval (see `seeds.over_seeds`).
        leak_reduction: |AUROC − 0.5| of the teacher minus the students', 95 % (this attack alone, unadjusted).
        blind: the blind baseline of the split, with the teacher's run.
    """

    attack: str
    teacher: Mapping[str, Estimate]
    teacher_limits: Mapping[str, Interval]
    students: tuple[ComparedStudent, ...]
    means: Mapping[str, Interval]
    leak_reduction: Interval
    blind: Estimate


@dataclass(frozen=True)
class Comparison:
    """A teacher and one arm (students that differ by their seed only) on one split."""

    split: str
    teacher: str
    arm: str
    members: int
    nonmembers: int
    attacks: tuple[ComparedAttack, ...]
    verdict: Verdict
    notes: tuple[str, ...]


def compare(teacher: Run, arms: Mapping[str, Sequence[Run]]) -> list[Comparison]:
    """Every arm against the teacher on every split that all runs have, arm by arm.

    Args:
        teacher: its run.
        arms: name → runs of the students that differ by their seed only.

    Raises:
        InputError: if there is no student, no common split or attack, if the runs saw different texts or were made
            with different options, or if there are too few texts for a threshold.
    """
    for arm, students in arms.items():
        if not students:
            raise InputError(f"the arm '{arm}' has no student: give at least one run")
    runs = [teacher, *(run for students in arms.values() for run in students)]
    splits = matching.common_splits(runs)
    return [_compare(teacher, arm, students, split) for arm, students in arms.items() for split in splits]


def compare_ensembles(teacher: Run, arms: Mapping[str, Sequence[Run]]) -> list[Comparison]:
    """Each arm's students together, by mean score against the teacher, and by majority against its decisions.

    Raises:
        InputError: as `compare`; also for an arm of one student.
    """
    means = {f"{name}, mean score": [mean_score(students)] for name, students in arms.items()}
    votes = {f"{name}, majority": [majority(students)] for name, students in arms.items()}
    return [*compare(teacher, means), *compare(decided(teacher), votes)]


def noted(comparisons: Sequence[Comparison]) -> list[str]:
    """The notes of all, those of one wording once, with the arms that they are about."""
    arms: dict[str, list[str]] = {}
    for comparison in comparisons:
        for note in comparison.notes:
            arms.setdefault(note, []).append(comparison.arm)
    return [f"{matching.listed(names)}: {note}" for note, names in arms.items()]


def _compare(teacher: Run, arm: str, students: Sequence[Run], split: str) -> Comparison:
    runs = [teacher, *students]
    before, *after = matching.comparable_results(runs, split)
    attacks = list(before)
    first = before[attacks[0]]
    adjusted = [holm([_paired(before[name], student[name]).p for name in attacks]) for student in after]
    return Comparison(
        split=split,
        teacher=teacher.model,
        arm=arm,
        members=int(first.labels.sum()),
        nonmembers=int((~first.labels).sum()),
        attacks=tuple(
            _attack(
                before[name],
                [
                    _student(run.model, before[name], student[name], p[number])
                    for run, student, p in zip(students, after, adjusted, strict=True)
                ],
                [student[name] for student in after],
            )
            for number, name in enumerate(attacks)
        ),
        verdict=verdict(before, after, (teacher.model, arm)),
        notes=tuple(matching.notes(runs, before, split)),
    )


def _attack(
    teacher: AttackResult, compared: Sequence[ComparedStudent], students: Sequence[AttackResult]
) -> ComparedAttack:
    return ComparedAttack(
        attack=teacher.attack,
        teacher=teacher.measured,
        teacher_limits=teacher.intervals,
        students=tuple(compared),
        means={name: over_seeds(students, name) for name in FIGURES},
        leak_reduction=Reduction([teacher], students).at(),
        blind=teacher.blind,
    )


def _student(model: str, teacher: AttackResult, student: AttackResult, p_holm: float) -> ComparedStudent:
    return ComparedStudent(
        model=model,
        figures=student.measured,
        limits=student.intervals,
        paired=_paired(teacher, student),
        p_holm=p_holm,
        predicted=predicted(teacher, student),
        right=right(teacher, student),
        vulnerable=agreement(teacher, student),
        unscored=int(np.isnan(student.scores).sum()),
    )


def _paired(teacher: AttackResult, student: AttackResult) -> PairedTest:
    return delong_paired(teacher.labels, student.scores, teacher.scores, teacher.clusters, teacher.variance)
