"""Which MIA tasks of a run gave no figure: said once more below the table, and by the exit status where none did."""

from __future__ import annotations

import math
import sys

from midistill_tasks.harness.scores import Outcome

_why: dict[str, str] = {}
"""Task of this run → why it has no figure; "" where it has."""


def note(task: str, outcome: Outcome) -> None:
    """Remembers whether a task gave any score."""
    scored = not outcome.silent and any(not math.isnan(text.score) for text in outcome.scores.values())
    _why[task] = "" if scored else next(iter(outcome.reasons), "no text has a score")


def last_words() -> str:
    """What is missing, a line a reason; "" where nothing is."""
    by_reason: dict[str, list[str]] = {}
    for task, why in _why.items():
        if why:
            by_reason.setdefault(why, []).append(task)
    return "\n".join(f"midistill: no figures of {', '.join(tasks)}: {why}" for why, tasks in by_reason.items())


def say() -> None:
    """Ends a run of the command ``lm_eval``.

    Raises:
        SystemExit: with status 1, where MIA tasks ran and none gave a figure.
    """
    if words := last_words():
        print(words, file=sys.stderr)
    if _why and all(_why.values()):
        sys.exit(1)
