"""Everything that can be said of a teacher and its students: what `midistill compare` prints and writes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

from midistill_tasks.compare.epsilon import Epsilon, epsilons
from midistill_tasks.compare.family import settled
from midistill_tasks.compare.pairs import Comparison, compare, compare_ensembles, noted
from midistill_tasks.compare.pareto import Point, points, shared_perplexity
from midistill_tasks.files import write_atomically
from midistill_tasks.report import tables
from midistill_tasks.results.matching import skip_notes, version_notes
from midistill_tasks.results.run import Run
from midistill_tasks.results.table import Table, markdown_safe


@dataclass(frozen=True)
class Assessment:
    """A teacher and its arms.

    Attributes:
        teacher, arms: the runs; an arm's students differ by their seed only.
        comparisons: one an arm and split; ensembles are arms of their own.
        epsilons: model and bound (or why there is none) of each of its tasks.
        points: split → privacy and utility of each model; empty where the runs share no perplexity.
        failed: runs that could not be compared, in words.
    """

    teacher: Run
    arms: Mapping[str, Sequence[Run]]
    comparisons: tuple[Comparison, ...]
    epsilons: tuple[tuple[str, Epsilon], ...]
    points: Mapping[str, Sequence[Point]]
    failed: tuple[str, ...] = ()

    @property
    def tables(self) -> list[Table]:
        """All tables that have a row."""
        fronts = [tables.front(split, models) for split, models in self.points.items()]
        return [
            table for table in (*tables.tables(self.comparisons), tables.epsilons(self.epsilons), *fronts) if table.rows
        ]

    @property
    def notes(self) -> list[str]:
        """What a reader should know beside the tables; among it why a split gets no ε."""
        reasons = [bound.reason for _, bound in self.epsilons if math.isnan(bound.value)]
        runs = [self.teacher, *(run for students in self.arms.values() for run in students)]
        left_out = [f"Left out: {failure}" for failure in self.failed]
        notes = [*left_out, *version_notes(runs), *skip_notes(runs), *noted(self.comparisons), *reasons]
        return list(dict.fromkeys(notes))

    @property
    def markdown(self) -> str:
        """Verdicts, tables and notes."""
        sentences = [f"{each.arm} on {each.split}: {each.verdict.sentence}" for each in self.comparisons]
        verdicts = [f"{markdown_safe(sentence)}\n" for sentence in sentences]
        notes = [f"- {markdown_safe(note)}" for note in self.notes]
        return "\n".join([*verdicts, *(table.markdown() for table in self.tables), *notes]) + "\n"


def assess(
    teacher: Run, arms: Mapping[str, Sequence[Run]], ensembles: bool = False, failed: tuple[str, ...] = ()
) -> Assessment:
    """Compares every arm with the teacher, bounds every ε and places every model between privacy and utility.

    Args:
        teacher: its run.
        arms: name → runs of students that differ by their seed only.
        ensembles: also judge each arm of several students as an ensemble by mean score and by majority.
        failed: what to say of runs that could not be compared.

    Raises:
        InputError: as `compare`.
    """
    students = [run for runs in arms.values() for run in runs]
    several = {name: runs for name, runs in arms.items() if ensembles and len(runs) > 1}
    utility = shared_perplexity([teacher, *students])
    compared = [*compare(teacher, arms), *(compare_ensembles(teacher, several) if several else [])]
    comparisons, *_ = settled(compared, [])
    return Assessment(
        teacher=teacher,
        arms=arms,
        comparisons=tuple(comparisons),
        epsilons=tuple(
            (run.model, bound)
            for split in teacher.splits
            for run, bounds in zip([teacher, *students], epsilons([teacher, *students], split), strict=True)
            for bound in bounds
        ),
        points={
            split: points([teacher, *students], split, utility) if utility else []
            for split in dict.fromkeys(comparison.split for comparison in comparisons)
        },
        failed=failed,
    )


def write(assessment: Assessment, folder: Path) -> None:
    """Writes comparison.json (NaN as null), comparison.md and a CSV file a table; files of that name are replaced."""
    content = {
        "comparisons": _plain(assessment.comparisons),
        "epsilons": _plain(assessment.epsilons),
        "points": _plain(assessment.points),
        "notes": assessment.notes,
    }
    write_atomically(folder / "comparison.json", json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    write_atomically(folder / "comparison.md", assessment.markdown)
    for table in assessment.tables:
        write_atomically(folder / table.file, table.csv())


def _plain(value: Any) -> Any:
    """Dataclasses and named tuples as objects, NaN as null: JSON that every reader takes."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {field: _plain(part) for field, part in value._asdict().items()}
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and math.isnan(value) else value
