"""The parts of a study and what each needs of the others: their order, and who waits for whom."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from midistill_tasks.errors import InputError, nearest


@dataclass(frozen=True)
class Part:
    """What one step does for one model, or for all.

    Attributes:
        name: of what it is done for, as ``--only`` takes it: ``teacher``, ``ARM/SEED``, or a name of the step's own.
        needs: what must be done before: ``step`` (all its parts, where the study has any) or ``step:name``.
        step: whose it is; filled in for the steps.
    """

    name: str
    needs: tuple[str, ...] = ()
    step: str = ""

    @property
    def key(self) -> str:
        """``step:name``; no other part has it."""
        return f"{self.step}:{self.name}"

    def is_needed_by(self, other: Part) -> bool:
        """Whether `other` names it, or its step, among what it needs."""
        return self.key in other.needs or self.step in other.needs


def in_order(parts: Sequence[Part], steps: Iterable[str]) -> list[Part]:
    """What belongs to one name stands together, in the order in which names first appear, each part after its needs.

    >>> train, score = Part("student/0", step="train"), Part("student/0", ("train:student/0",), step="score")
    >>> [part.key for part in in_order([score, train], ["score", "train"])]
    ['train:student/0', 'score:student/0']

    Args:
        parts: of all steps.
        steps: the names of those that there are, also of those that have no part in this study.

    Raises:
        InputError: for two parts of one step and name, a need that is none of these, or parts that wait for each other.
    """
    keys = [part.key for part in parts]
    known = {*keys, *steps}
    for number, part in enumerate(parts):
        if part.key in keys[:number]:
            raise InputError(f"the step '{part.step}' has two parts '{part.name}': give each a name of its own")
        for need in part.needs:
            if need not in known:
                raise InputError(f"{part.key} needs '{need}', which no step of this study is{nearest(need, known)}")
    names = [part.name for part in parts]
    order: list[Part] = []
    for part in sorted(parts, key=lambda part: names.index(part.name)):
        _append(order, part, parts, ())
    return order


def _append(order: list[Part], part: Part, parts: Sequence[Part], waiting: tuple[Part, ...]) -> None:
    if part in waiting:
        circle = [*waiting[waiting.index(part) :], part]
        raise InputError(f"parts of the study wait for each other: {' needs '.join(one.key for one in circle)}")
    if part in order:
        return
    for other in parts:
        if other.is_needed_by(part):
            _append(order, other, parts, (*waiting, part))
    order.append(part)


def all_needs(part: Part, parts: Sequence[Part]) -> list[Part]:
    """What must be done before a part, directly or for another of its needs, in the order of `parts`."""
    found = needs_of_all([*parts, part])[part]
    return [other for other in parts if other in found]


def needs_of_all(parts: Sequence[Part]) -> dict[Part, frozenset[Part]]:
    """Of each part what must be done before it, directly or for another of its needs; none waits for itself."""
    of_step: dict[str, list[Part]] = {}
    for part in parts:
        for name in (part.step, part.key):
            of_step.setdefault(name, []).append(part)
    found: dict[Part, frozenset[Part]] = {}

    def of(part: Part) -> frozenset[Part]:
        if part not in found:
            direct = [other for need in part.needs for other in of_step.get(need, ())]
            found[part] = frozenset(direct).union(*map(of, direct))
        return found[part]

    return {part: of(part) for part in parts}
