"""Arms beside the frontier of a study, for `coverage.py`: one that is a stopped vanilla student, and a better one.

The made-up students of `made_frontier`: their frontier is curved, its checkpoints are those of the recipe's default,
and an arm's perplexity lies anywhere between the first and the last.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from made_frontier import Student, World, study

from midistill_tasks.compare.frontier.against import judge

Rng = np.random.Generator
Training = Literal["same", "own"]
"""Whether the arm is a student of the vanilla student's own training, or of another one with the same seed's data."""


def _seeds(rng: Rng, training: Training, seeds: int, gain: float, texts: int) -> list[tuple[list[Student], Student]]:
    world = World(rng, texts)
    time = float(np.exp(rng.uniform(np.log(0.05), np.log(0.95))))
    make = world.stopped if training == "same" else world.apart
    return [make(time, 2, gain) for _ in range(seeds)]


def stopped_is_told_apart(training: Training, seeds: int, texts: int = 400) -> Callable[[Rng], bool]:
    """Whether an arm that is a stopped vanilla student comes out as better or as worse than one."""

    def draw(rng: Rng) -> bool:
        found = judge("arm", *study(_seeds(rng, training, seeds, 0.0, texts))).reduction
        return found.lower > 0 or found.upper < 0

    return draw


BEST = {"at the end": (0.125, 0.75), "at 0.6 of the training": (0.269, 0.45)}
"""Where a training is at its best: how it turns there (`made_frontier.excess`), and a time shortly before."""


def stopped_before_the_best(best: str, seeds: int, texts: int = 400) -> Callable[[Rng], bool]:
    """As `stopped_is_told_apart`, between the checkpoints before the best perplexity, where the frontier is upright."""
    turning, time = BEST[best]

    def draw(rng: Rng) -> bool:
        world = World(rng, texts, turning=turning)
        found = judge("arm", *study([world.stopped(time, 2) for _ in range(seeds)])).reduction
        return found.lower > 0 or found.upper < 0

    return draw


def better_is_found(seeds: int, gain: float = 0.05, time: float = 0.5) -> Callable[[Rng], bool]:
    """Whether an arm, 231 texts a side, that remembers less by `gain` nats a byte is said to leak less."""

    def draw(rng: Rng) -> bool:
        world = World(rng, 462)
        return judge("arm", *study([world.apart(time, 2, gain) for _ in range(seeds)])).reduction.lower > 0

    return draw
