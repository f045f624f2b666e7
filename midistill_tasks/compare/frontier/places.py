"""Where the students of a frontier and the arms lie between leak and held-out perplexity, as means over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from midistill_tasks.compare.frontier.interpolation import front
from midistill_tasks.compare.verdict import strongest_area
from midistill_tasks.metrics.estimate import Estimate, Interval
from midistill_tasks.results.likelihoods import documents_of, over_documents, read_heldout
from midistill_tasks.results.matching import comparable_results
from midistill_tasks.results.roles import Frontier, Group
from midistill_tasks.results.run import Run


class Place(NamedTuple):
    """One arm, or one way of training a vanilla student less.

    Attributes:
        name: of the arm, or what was changed.
        defence: "stopped" or "fewer"; "" for an arm.
        seeds: whose mean it is.
        attack: the strongest.
        leak: |AUROC − 0.5| under it, 95 % over texts, the choice of the attack and, from three on, seeds.
        utility: held-out log-perplexity, nats a byte (or word), with the error over documents.
        on_line: whether it is on the frontier: of a lower perplexity than all with less training.
    """

    name: str
    defence: str
    seeds: int
    attack: str
    leak: Interval
    utility: Estimate
    on_line: bool


def places(group: Group, split: str) -> tuple[Place, ...]:
    """First the frontier's, by how much training each had, then the arms in their order; those that can be placed.

    Raises:
        InputError: where the runs of one place cannot be compared.
    """
    frontier = group.frontier
    if frontier is None:
        return ()
    arms = {entry.name: entry.runs for entry in group.arms if entry.name in group.trained}
    arm_places = [place for name, runs in arms.items() if (place := _place(name, "", runs, split))]
    whole = next((place for place in arm_places if place.name == frontier.arm), None)
    found = []
    for defence in ("stopped", "fewer"):
        named = _by_name(frontier, defence)
        found += _on_line([p for name, runs in named.items() if (p := _place(name, defence, runs, split))])
    both = [
        _on_line([*(p for p in found if p.defence == name), whole])[-1].on_line
        for name in ("stopped", "fewer")
        if whole
    ]
    if whole:
        arm_places[arm_places.index(whole)] = whole._replace(on_line=any(both))
    return (*found, *arm_places)


def _by_name(frontier: Frontier, defence: str) -> dict[str, list[Run]]:
    """What was changed → the runs of all seeds."""
    named: dict[str, list[Run]] = {}
    for seed in dict.fromkeys([*frontier.stopped, *frontier.fewer]):
        for run in frontier.defences(seed).get(defence, ()):
            named.setdefault(run.model.removeprefix(f"{frontier.arm}, seed {seed}, "), []).append(run)
    return named


def _place(name: str, defence: str, runs: Sequence[Run], split: str) -> Place | None:
    runs = [run for run in runs if run.on(split)]
    held = [read_heldout(run, split) for run in runs]
    if not held or None in held:
        return None
    attack, area = strongest_area(comparable_results(runs, split))
    ratios = [
        over_documents(each.ids, each.losses, each.sizes, documents_of(run, split))
        for run, each in zip(runs, held, strict=True)
        if each
    ]
    utility = Estimate(*(float(np.mean(figures)) for figures in zip(*ratios, strict=True)))
    return Place(name, defence, len(held), attack, leak_of(area), utility, on_line=False)


def leak_of(area: Interval) -> Interval:
    """|AUROC − 0.5|, whose lower limit is 0 where 0.5 lies within the limits."""
    ends = sorted((abs(area.lower - 0.5), abs(area.upper - 0.5)))
    lower = 0.0 if area.lower <= 0.5 <= area.upper else ends[0]
    return Interval(abs(area.value - 0.5), math.nan if math.isnan(ends[0]) else lower, ends[1])


def _on_line(found: Sequence[Place]) -> list[Place]:
    """Those of one defence, by how much training they had, as `interpolation.front` has single seeds."""
    on_line = front([place.utility.value for place in found])
    return [place._replace(on_line=number in on_line) for number, place in enumerate(found)]
