"""The parts of the page: each is a module with its numbers, its chart and its notes, and says which part it follows.

    @section(after="curves")
    def calibration(findings: Findings) -> Section | None:
        return Section(f"Calibration on {findings.split}", …)

That module is named in `BUILT_IN`; one of another package by its entry point in the group ``midistill.sections``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from midistill_tasks.errors import InputError
from midistill_tasks.registry import Registry
from midistill_tasks.report.findings import Findings
from midistill_tasks.report.page import Section

MakeSection = Callable[[Findings], "Section | None"]
"""Findings of one split → that part of the page; None = there is nothing to show."""


@dataclass(frozen=True)
class Part:
    """A section and its place on the page.

    Attributes:
        make: writes it.
        after: the section that it follows; None = it is the first.
        per: whether it is written for each split, or once, below all splits, and then from the first split's findings:
            all models of the page are in their `group`.
    """

    make: MakeSection
    after: str | None
    per: Literal["split", "page"]


BUILT_IN = (
    "overview",
    "frontier",
    "side_by_side",
    "controls",
    "trade",
    "curves",
    "matrices",
    "exposed",
    "epsilon",
    "canaries",
    "ensembles",
    "shadows",
    "provenance",
)
SECTIONS: Registry[Part] = Registry("section", "midistill.sections", {name: f"{__name__}.{name}" for name in BUILT_IN})


def section(after: str | None, per: Literal["split", "page"] = "split") -> Callable[[MakeSection], MakeSection]:
    """Registers a section under the function's name; see `Part`."""

    def register(make: MakeSection) -> MakeSection:
        SECTIONS.register(make.__name__, Part(make, after, per), make.__module__)
        return make

    return register


def in_order() -> list[Part]:
    """All sections; those of other packages directly after the section that they name.

    Raises:
        InputError: for a section that follows none of the others.
    """
    followers: dict[str | None, list[str]] = {}
    for name, part in SECTIONS.items():
        if part.after is not None:
            SECTIONS.find(part.after, f"the place of the section '{name}'")
        followers.setdefault(part.after, []).append(name)

    def follow(name: str | None) -> Iterator[str]:
        for follower in sorted(followers.get(name, ()), key=lambda name: name in BUILT_IN):
            yield follower
            yield from follow(follower)

    names = list(follow(None))
    lost = [name for name in SECTIONS if name not in names]
    if lost:
        raise InputError(
            f"the sections {', '.join(lost)} follow each other in a circle: let one follow another section"
        )
    return [SECTIONS[name] for name in names]
