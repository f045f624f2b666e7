"""Registers the metrics with the harness, as ``mia_auroc`` …, so that a plain YAML task can use them.

    metric_list:
      - {metric: mia_auroc, aggregation: mia_auroc, higher_is_better: false}
      - {metric: mia_auroc_stderr, aggregation: mia_auroc_stderr, higher_is_better: false}

where the task's ``process_results`` gives, for both, ``(label, score)`` or ``(label, score, id, cluster)``. Emitted
after its metric, ``…_stderr`` fills the table's Stderr column. ``mia_blind_auroc`` takes ``(label, text)`` or
``(label, text, id, cluster)``.

Importing this module registers: a harness that discovers entry points (``lm_eval.metrics``, ``lm_eval.aggregations``)
loads one of its objects and expects that; the backport imports it with ``lm_eval.api.metrics``. Entry points name
`item` for every metric, and for every aggregation the object called like it, dots as underscores.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from midistill_tasks.errors import InputError, warn_once
from midistill_tasks.metrics import METRICS, as_scored
from midistill_tasks.metrics.blind import blind_auroc

Aggregation = Callable[[Sequence[Any]], float | str]


def item(row: Any) -> Any:
    """Every metric's function for one document: all is in the aggregation."""
    return row


def _of_scores(name: str, figure: Aggregation, undefined: float | str) -> Aggregation:
    """An aggregation never raises, for that would lose the whole run."""

    def aggregate(rows: Sequence[Any]) -> float | str:
        try:
            return figure(as_scored(rows))
        except InputError as error:
            warn_once(f"{name}: {error}")
            return undefined

    return aggregate


@lru_cache(maxsize=8)
def _blind(rows: tuple[tuple[Any, ...], ...]) -> tuple[float, float]:
    """The baseline's value and error, computed once for both."""
    scored = as_scored([(label, None, *rest) for label, _, *rest in rows])
    texts = [str(row[1]) for row in rows]
    return blind_auroc(texts, [row.label for row in scored], [row.cluster for row in scored])[:2]


def _of_texts(part: int, undefined: float | str) -> Aggregation:
    def aggregate(rows: Sequence[Any]) -> float | str:
        try:
            figure = _blind(tuple(tuple(row) for row in rows))[part]
        except (InputError, TypeError, ValueError) as error:
            warn_once(f"mia_blind_auroc: {error}")
            figure = math.nan
        return undefined if math.isnan(figure) else figure

    return aggregate


def _aggregations() -> dict[str, Aggregation]:
    made: dict[str, Aggregation] = {}
    for metric in METRICS.values():
        name = f"mia_{metric.name}"
        made[name] = _of_scores(name, metric.value, math.nan)
        if metric.stderr is not None:
            made[f"{name}_stderr"] = _of_scores(name, metric.stderr, "N/A")
    made["mia_blind_auroc"] = _of_texts(0, math.nan)
    made["mia_blind_auroc_stderr"] = _of_texts(1, "N/A")
    return made


AGGREGATIONS = _aggregations()
"""Registered name → aggregation; also attributes of this module, for entry points, with dots as underscores."""

for _name, _aggregation in AGGREGATIONS.items():
    _aggregation.__name__ = _aggregation.__qualname__ = _name.replace(".", "_")
    globals()[_aggregation.__name__] = _aggregation


def register() -> None:
    """Registers every aggregation and its metric of the same name with the harness; again = no change."""
    from lm_eval.api.registry import register_aggregation, register_metric

    directions = {f"mia_{metric.name}": metric.higher_is_better for metric in METRICS.values()}
    for name, aggregation in AGGREGATIONS.items():
        register_aggregation(name)(aggregation)
        # The harness's registry cannot hold None, "no direction": it takes an absent key for that.
        direction = directions.get(name)
        extra = {} if direction is None else {"higher_is_better": direction}
        register_metric(metric=name, aggregation=name, **extra)(item)


register()
