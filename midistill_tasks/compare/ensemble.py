"""Ensembles of students, as in the paper's first version (arXiv 2505.11837v1), as runs that `compare` takes.

Both need students that were attacked in the same way on the same texts; only the scores are combined, no model is run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from midistill_tasks.errors import InputError
from midistill_tasks.metrics import Scored
from midistill_tasks.metrics.scored import FloatArray
from midistill_tasks.results.matching import check_comparable
from midistill_tasks.results.run import AttackResult, Run


def mean_score(runs: Sequence[Run]) -> Run:
    """A text's score is the mean of the students' scores; a text that one of them has no score for has none.

    Scores are averaged as they are: give students of one kind, whose scores are on one scale.

    Raises:
        InputError: for fewer than two runs, no common task, different texts or different options.
    """
    return _combine(runs, "mean score", _mean)


def majority(runs: Sequence[Run]) -> Run:
    """A text is called a member where more than half of the students call it one; its score is their share.

    Each student decides by its own cross-fitted threshold, so no decision comes from a threshold chosen on the text.
    With an even number of students a tie is no majority.

    Raises:
        InputError: as `mean_score`; also where a student has too few texts for a threshold.
    """
    return _combine(runs, "majority", _vote)


def decided(run: Run) -> Run:
    """The run with its own decisions, 1 or 0, as scores: what a majority of decisions is to be compared with.

    A decision tells less than the score it was made from, so against the scores even a majority of equal models would
    seem to leak less than one of them.
    """
    return replace(run, tasks={name: _vote([result]) for name, result in run.tasks.items()})


def _combine(runs: Sequence[Run], rule: str, combine: Callable[[Sequence[AttackResult]], AttackResult]) -> Run:
    if len(runs) < 2:
        raise InputError(f"an ensemble needs at least two students, not {len(runs)}")
    first, *others = runs
    names = [name for name in first.tasks if all(name in run.tasks for run in others)]
    if not names:
        raise InputError("these students have no MIA task in common: run the same mia_… tasks on each")
    for run in others:
        for name in names:
            check_comparable((first, run), (first.tasks[name], run.tasks[name]))
    return replace(
        first,
        model=f"ensemble of {len(runs)} ({rule})",
        tasks={name: combine([run.tasks[name] for run in runs]) for name in names},
        utility={},  # the ensemble itself was not evaluated on them
        config={"ensemble": rule, "models": [run.model for run in runs]},
    )


def _mean(results: Sequence[AttackResult]) -> AttackResult:
    return _rescored(results, np.mean([result.scores for result in results], axis=0))


def _vote(results: Sequence[AttackResult]) -> AttackResult:
    shares = np.mean([result.decisions for result in results], axis=0)
    missing = np.any([np.isnan(result.scores) for result in results], axis=0)
    return replace(_rescored(results, np.where(missing, math.nan, shares)), voters=tuple(results))


def _rescored(results: Sequence[AttackResult], scores: FloatArray) -> AttackResult:
    first = results[0]
    items = tuple(
        Scored(item.label, score, item.id, item.cluster)
        for item, score in zip(first.items, scores.tolist(), strict=True)
    )
    return replace(first, items=items, figures={"blind_auroc": first.blind})
