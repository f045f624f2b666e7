"""Each intervention against its control: what is left of it once the student's size, or its number of texts, is equal.

That a student is safer than its teacher says little of an intervention, since students mostly are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from midistill_tasks.compare.pareto import shared_perplexity
from midistill_tasks.compare.verdict import StrongestReduction, judge, strongest_on
from midistill_tasks.compare.wording import Word
from midistill_tasks.metrics.estimate import Interval
from midistill_tasks.results.matching import comparable_results
from midistill_tasks.results.roles import Entry, Group
from midistill_tasks.results.run import Run


class Controlled(NamedTuple):
    """An arm against its control.

    Attributes:
        split: that both were attacked on.
        arm, control: their names.
        seeds: that both have, and that are compared.
        reduction: leak of the strongest attack on the control minus that on the arm, 95 %.
        word: whether the arm is safer than the control, on a page among all its answers.
        p: the smallest 1 − confidence at which that holds of this comparison alone; 1 for undecided.
        perplexity, control_perplexity: means over these seeds; NaN where the runs share none.
    """

    split: str
    arm: str
    control: str
    seeds: int
    reduction: Interval
    word: Word
    p: float
    perplexity: float
    control_perplexity: float


def against_controls(group: Group, split: str) -> tuple[Controlled, ...]:
    """Every arm that has a control with results.

    Raises:
        InputError: where the two were attacked on other texts or with other options.
    """
    entries = {entry.name: entry for entry in group.arms}
    pairs = [(entries[arm], entries[other]) for arm, other in group.controls.items() if {arm, other} <= entries.keys()]
    utility = shared_perplexity(group.runs) if pairs else None
    return tuple(
        _controlled(arm, control, split, utility)
        for arm, control in pairs
        if all(run.on(split) for entry in (arm, control) for run in entry.runs)
    )


def _controlled(arm: Entry, control: Entry, split: str, utility: str | None) -> Controlled:
    arm_runs, control_runs = _by_seed(arm, control)
    results = comparable_results([*control_runs, *arm_runs], split)
    before, after = results[: len(control_runs)], results[len(control_runs) :]
    reduction = StrongestReduction(before, after)
    word, p = judge(reduction, strongest_on(control.name, before), strongest_on(arm.name, after))
    costs = _mean(arm_runs, utility), _mean(control_runs, utility)
    return Controlled(split, arm.name, control.name, len(arm_runs), reduction.at(), word, p, *costs)


def _by_seed(arm: Entry, control: Entry) -> tuple[list[Run], list[Run]]:
    """The runs of the seeds that both have. In a study a run is named after its arm and seed."""
    of_arm, of_control = _seeds(arm), _seeds(control)
    shared = [seed for seed in of_arm if seed in of_control]
    if not shared:
        return [arm.runs[0]], [control.runs[0]]
    return [of_arm[seed] for seed in shared], [of_control[seed] for seed in shared]


def _seeds(entry: Entry) -> Mapping[str, Run]:
    return {run.model.removeprefix(entry.name): run for run in entry.runs}


def _mean(runs: Sequence[Run], utility: str | None) -> float:
    return math.nan if utility is None else float(np.mean([run.utility[utility].value for run in runs]))
