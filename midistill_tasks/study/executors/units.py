"""Units: parts of one name that one command does, cut where somebody else waits for less than all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from midistill_tasks.files import write_atomically
from midistill_tasks.recipes.file import dump_recipe
from midistill_tasks.study.executors.resources import estimated_memory, need_of
from midistill_tasks.study.executors.unit import Unit
from midistill_tasks.study.folders import TEACHER
from midistill_tasks.study.graph import Part, needs_of_all
from midistill_tasks.study.recipe import Study
from midistill_tasks.study.work import Work


@dataclass(frozen=True)
class StudyUnit(Unit):
    """A command, ``midistill study RECIPE --only …``, named like its parts, or ``step:name`` of the first where it does
    not hold all of this name."""

    parts: tuple[Part, ...]

    @property
    def fails_as(self) -> str:
        """The name of its parts."""
        return self.parts[0].name

    @property
    def vital(self) -> bool:
        """Whether it is what comes before the students."""
        return self.parts[0].name == TEACHER


GIVEN = "given.yaml"
"""In the study's folder: its recipe for the units. The folder's own is written anew by each command, and one may do
a part with an arm more or less."""


def kept_recipe(study: Study) -> list[str]:
    """The study as units name it on their command lines: they begin when the user's file may say something else."""
    path = Path(study.output) / GIVEN
    write_atomically(path, dump_recipe(study))
    return [str(path)]


def logs_folder(output: str, only: str) -> Path:
    """Where the logs of a unit are, by its name or by what ``--only`` is told."""
    return Path(output) / "logs" / only.partition(",")[0].replace(":", "/")


def units_of(work: Work, left: Sequence[Part], recipe: Sequence[str]) -> list[StudyUnit]:
    """The parts that are `left` as units, each after its needs.

    Args:
        work: the study.
        left: of its parts.
        recipe: the study as a command line names it (`kept_recipe`).
    """
    needs = needs_of_all(work.parts)
    groups = [tuple(part for part in group if part in left) for group in cut(work.parts, needs)]
    groups = [group for group in groups if group]
    names = {part: _name(group, work) for group in groups for part in group}
    estimated = estimated_memory(work)
    return [_unit(work, group, needs, names, estimated, recipe) for group in groups]


def cut(parts: Sequence[Part], needs: Mapping[Part, frozenset[Part]]) -> list[list[Part]]:
    """Parts of one name together, unless one of another name would wait longer for it, or the first of them would."""
    groups: list[list[Part]] = []
    for part in parts:
        group = next((group for group in reversed(groups) if group[0].name == part.name), None)
        if group is None or _apart(group, part, parts, needs):
            groups.append([part])
        else:
            group.append(part)
    return groups


def _apart(group: list[Part], part: Part, parts: Sequence[Part], needs: Mapping[Part, frozenset[Part]]) -> bool:
    others = [other for other in parts if other.name != part.name]
    kept_waiting = any(needs[other] & set(group) and part not in needs[other] for other in others)
    return kept_waiting or not needs[part] - set(group) <= needs[group[0]]


def _name(group: Sequence[Part], work: Work) -> str:
    whole = len(group) == sum(part.name == group[0].name for part in work.parts)
    return group[0].name if whole else group[0].key


def _unit(
    work: Work,
    group: tuple[Part, ...],
    needs: Mapping[Part, frozenset[Part]],
    names: Mapping[Part, str],
    estimated: int | None,
    recipe: Sequence[str],
) -> StudyUnit:
    name = names[group[0]]
    waits_for = frozenset[Part]().union(*(needs[part] for part in group))
    before = dict.fromkeys(names[part] for part in work.parts if part in waits_for and part in names)
    only = ",".join(part.key for part in group) if name == group[0].key else name
    return StudyUnit(
        name=name,
        parts=group,
        needs=tuple(other for other in before if other != name),
        need=need_of(work, group, estimated),
        arguments=("study", *recipe, "--only", only),
        logs=logs_folder(work.study.output, only),
        writes=tuple(work.written(part) for part in group),
    )
