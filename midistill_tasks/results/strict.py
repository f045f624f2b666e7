"""JSON that every reader takes: null where there is no number, in what the harness and we write."""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Mapping
from typing import Any

_OF_NO_USE = "_stderr_stderr,"
"""In the keys that the harness makes for the errors of errors: we give it errors as metrics."""
_REQUESTS = ("arguments", "resps")
"""Of a sample, for the harness to put into words."""


INFINITE = sys.float_info.max
"""Stands for an infinite score in samples: null says there that a text has none."""


def strict(value: Any, infinite: float | None = None) -> Any:
    """The same with None for NaN, `infinite` (with the sign) for infinities, and without the errors of errors.

    >>> strict({"auroc,none": float("nan"), "auroc_stderr_stderr,none": "N/A", "n": [1, 2.5]})
    {'auroc,none': None, 'n': [1, 2.5]}
    """
    if isinstance(value, float) and not math.isfinite(value):
        return None if infinite is None or math.isnan(value) else math.copysign(infinite, value)
    if isinstance(value, Mapping):
        return {key: strict(each, infinite) for key, each in without_errors_of_errors(value).items()}
    if isinstance(value, list | tuple):
        return [strict(each, infinite) for each in value]
    return value


def strict_sample(value: Any) -> Any:
    """As `strict`, for what is said of one text; `from_strict` reads it."""
    return strict(value, INFINITE)


def from_strict(value: Any) -> float:
    """A figure of a sample: NaN for null.

    >>> from_strict(None), from_strict(2), from_strict(strict_sample(float("-inf")))
    (nan, 2.0, -inf)
    """
    found = math.nan if value is None else float(value)
    return math.copysign(math.inf, found) if abs(found) >= INFINITE else found


def without_errors_of_errors(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of results, which the harness gives an error for each of our errors."""
    return {key: value for key, value in row.items() if _OF_NO_USE not in str(key)}


def write_strictly(tracker: Any) -> None:
    """Has the harness's `EvaluationTracker` write results, and samples of MIA tasks, so; may be called again."""
    aggregated, of_samples = tracker.save_results_aggregated, tracker.save_results_samples
    if getattr(of_samples, "__module__", "") == __name__:
        return

    @functools.wraps(aggregated)
    def save_results_aggregated(self: Any, results: dict[str, Any], samples: Any = None) -> Any:
        return aggregated(self, results=strict(results), samples=samples)

    @functools.wraps(of_samples)
    def save_results_samples(self: Any, task_name: str, samples: Any) -> Any:
        made = [
            {key: value if key in _REQUESTS else strict_sample(value) for key, value in sample.items()}
            if "score" in sample["doc"]
            else sample
            for sample in samples
        ]
        return of_samples(self, task_name=task_name, samples=made)

    save_results_samples.__module__ = __name__
    tracker.save_results_aggregated, tracker.save_results_samples = save_results_aggregated, save_results_samples
