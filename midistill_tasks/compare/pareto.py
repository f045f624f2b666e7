"""Privacy against utility over models: which models no other beats in both. No single score hides either.

A weaker model leaks less, so a leak is read beside a utility: a model on the front has no rival that is at least as
good in both and better in one. Points are compared as measured; their errors say how firm a place on the front is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from midistill_tasks.errors import InputError, nearest
from midistill_tasks.metrics.estimate import Estimate
from midistill_tasks.results.roles import Entry
from midistill_tasks.results.run import Run, Utility

PERPLEXITIES = ("byte_perplexity", "word_perplexity", "perplexity", "bits_per_byte")
"""In the order of preference: of bytes, which no tokenizer and no kind of text changes, and which stays readable."""


class Point(NamedTuple):
    """One model.

    Attributes:
        model: its name.
        leak: |AUROC − 0.5| of the strongest attack, with its standard error; lower is more private. The largest of
            several measured leaks is a little too large, the more so the closer they lie.
        attack: that attack.
        utility: the figure of the axis.
        on_front: whether no other model is at least as good in both and better in one; no where a figure is NaN.
    """

    model: str
    leak: Estimate
    attack: str
    utility: Utility
    on_front: bool


def points(runs: Sequence[Run], split: str, utility: str) -> list[Point]:
    """The models in the given order.

    Args:
        runs: all with an attack on the split and the utility figure.
        split: whose attacks count.
        utility: ``task/metric``; `shared_perplexity` suggests one.

    Raises:
        InputError: where a run lacks the figure or the split.
    """
    for run in runs:
        if utility not in run.utility:
            known = ", ".join(run.utility) or "nothing"
            raise InputError(f"{run.model} has no '{utility}'{nearest(utility, run.utility)}; it has {known}")
    models = [(run, strongest_leak(run, split), run.utility[utility]) for run in runs]
    costs = [
        (leak.value, -figure.value if figure.higher_is_better else figure.value) for _, (_, leak), figure in models
    ]
    return [
        Point(
            run.model,
            leak,
            attack,
            figure,
            not any(_dominates(other, cost) for other in costs) and not any(map(math.isnan, cost)),
        )
        for (run, (attack, leak), figure), cost in zip(models, costs, strict=True)
    ]


def strongest_leak(run: Run, split: str) -> tuple[str, Estimate]:
    """The attack of the largest |AUROC − 0.5| on a split, and that leak with its standard error; as `Entry.on` chooses.

    Raises:
        InputError: if no attack ran on the split.
    """
    (judged,) = Entry(run.model, (run,)).on(split)
    areas = {attack: result.measured["auroc"] for attack, result in judged.items()}
    if not areas:
        raise InputError(f"{run.model} was not attacked on {split}{nearest(split, run.splits)}; run its mia_… tasks")
    attack = max(areas, key=lambda name: abs(areas[name].value - 0.5))
    return attack, Estimate(abs(areas[attack].value - 0.5), areas[attack].stderr)


def shared_perplexity(runs: Sequence[Run]) -> str | None:
    """The ``task/metric`` that is a perplexity, the most preferred, and that all runs have; None where none is."""
    shared = [name for name in runs[0].utility if all(name in run.utility for run in runs)]
    metrics = [runs[0].utility[name].metric for name in shared]
    return next((shared[metrics.index(metric)] for metric in PERPLEXITIES if metric in metrics), None)


def _dominates(first: tuple[float, float], second: tuple[float, float]) -> bool:
    return first[0] <= second[0] and first[1] <= second[1] and first != second
