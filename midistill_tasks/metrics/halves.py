"""Figures of scores that do not compare between the halves of the texts: each the mean of both halves' figures.

The halves are the folds of `thresholds.folds`: documents are never divided, and every run divides alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from midistill_tasks.metrics import METRICS, Metric
from midistill_tasks.metrics.scored import Scored
from midistill_tasks.metrics.thresholds import folds


def halves(items: Sequence[Scored]) -> tuple[list[Scored], list[Scored]]:
    """The texts of each fold, in their order."""
    fold = folds(items)
    first, second = ([item for item, own in zip(items, fold, strict=True) if own == number] for number in (0, 1))
    return first, second


def nonmembers_by_half(items: Sequence[Scored]) -> list[int]:
    """How many non-members each half has."""
    return [sum(item.label == 0 for item in half) for half in halves(items)]


def _mean_of(metric: Metric) -> Metric:
    def value(items: Sequence[Scored]) -> float:
        return math.fsum(metric.value(half) for half in halves(items)) / 2

    def stderr(items: Sequence[Scored]) -> float | str:
        errors = [_error(metric, half) for half in halves(items)]
        return "N/A" if any(map(math.isnan, errors)) else math.hypot(*errors) / 2

    words = f"{metric.description}; of each half by the attack that is strongest on the other, the mean of both"
    return metric._replace(value=value, stderr=stderr, description=words)


def _error(metric: Metric, items: Sequence[Scored]) -> float:
    error: Callable[[Sequence[Scored]], float | str] | None = metric.stderr
    found = math.nan if error is None else error(items)
    return math.nan if isinstance(found, str) else found


HALVES: dict[str, Metric] = {
    name: _mean_of(METRICS[name]) for name in ("auroc", "tpr_at_1pct_fpr", "tpr_at_0.1pct_fpr")
}
"""Those that a task of an attack which `picks` may show."""
