"""Each intervention against its control: what is left of it once the student's size, or its number of texts, is equal.

That a student is safer than its teacher says little of an intervention, since students mostly are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from midistill_tasks.compare.pareto import shared_perplexity
from midistill_tasks.compare.verdict import judge, strongest_area, strongest_reduction
from midistill_tasks.results.matching import comparable_results
from midistill_tasks.results.roles import Entry, Group
from midistill_tasks.results.run import Run
from midistill_tasks.results.table import Cell, Table

NOTE = (
    "Reduction: leak of the strongest attack on the control minus that on the arm, so above 0 is safer. 95 % "
    "interval for other texts and the choice among the attacks, with several seeds (arm and control of one seed are a "
    "pair) for other seeds, too. A leak that falls while the perplexity rises may be no more "
    "than a weaker model."
)


def controls_table(group: Group, split: str) -> Table | None:
    """A row an arm that has a control with results; None where there is none.

    Raises:
        InputError: where the two were attacked on other texts or with other options.
    """
    entries = {entry.name: entry for entry in group.arms}
    pairs = [(entries[arm], entries[other]) for arm, other in group.controls.items() if {arm, other} <= entries.keys()]
    pairs = [pair for pair in pairs if all(run.on(split) for entry in pair for run in entry.runs)]
    if not pairs:
        return None
    utility = shared_perplexity(group.runs)
    rows = [_row(arm, control, split, utility) for arm, control in pairs]
    columns = ("arm", "control", "seeds", "reduction of the leak", "than the control", "perplexity", "of control")
    return Table(f"controls-{split}", "Each intervention against its control", columns, tuple(rows))


def _row(arm: Entry, control: Entry, split: str, utility: str | None) -> tuple[Cell, ...]:
    ours, theirs = _by_seed(arm, control)
    tasks = comparable_results([*theirs, *ours], split)
    reduction = strongest_reduction(tasks[: len(theirs)], tasks[len(theirs) :])
    costs = [_mean(runs, utility) for runs in (ours, theirs)]
    areas = strongest_area(tasks[: len(theirs)])[1], strongest_area(tasks[len(theirs) :])[1]
    blind = next(iter(tasks[0].values())).blind
    return (arm.name, control.name, len(ours), reduction, judge(reduction, areas, blind), *costs)


def _by_seed(arm: Entry, control: Entry) -> tuple[list[Run], list[Run]]:
    """The runs of the seeds that both have. In a study a run is named after its arm and seed."""
    ours, theirs = (_seeds(entry) for entry in (arm, control))
    shared = [seed for seed in ours if seed in theirs]
    if not shared:
        return [arm.runs[0]], [control.runs[0]]
    return [ours[seed] for seed in shared], [theirs[seed] for seed in shared]


def _seeds(entry: Entry) -> Mapping[str, Run]:
    return {run.model.removeprefix(entry.name): run for run in entry.runs}


def _mean(runs: Sequence[Run], utility: str | None) -> float:
    return math.nan if utility is None else float(np.mean([run.utility[utility].value for run in runs]))
