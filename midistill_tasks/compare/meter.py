"""Hands a run over to people who use privacy-meter's reports."""

from __future__ import annotations

from typing import Any

import numpy as np

from midistill_tasks.results.run import Run


def metric_results(run: Run) -> dict[str, Any]:
    """A `privacy_meter.metric_result.MetricResult` for each task of a run (privacy-meter 1.0.1), by task name.

    ``metric_id`` is the task's name. Predictions are the cross-fitted decisions, so ``threshold`` is None: there are
    two. Texts without a score are left out. ``signal_values`` are the negated scores, since privacy-meter's signals are
    losses; ``predictions_proba`` are the scores themselves (higher = more likely a member, not probabilities).

    Raises:
        InputError: where a task has too few scored texts for a threshold.
    """
    from privacy_meter.metric_result import MetricResult

    by_task = {}
    for name, result in run.tasks.items():
        scored = ~np.isnan(result.scores)
        by_task[name] = MetricResult(
            metric_id=name,
            predicted_labels=result.decisions[scored].astype(int).tolist(),
            true_labels=result.labels[scored].astype(int).tolist(),
            predictions_proba=result.scores[scored].tolist(),
            signal_values=(-result.scores[scored]).tolist(),
        )
    return by_task
