"""What a study will do and about what it costs, before anything is done."""

from __future__ import annotations

import math
import time

import torch

from midistill_tasks.study.check import check, check_output
from midistill_tasks.study.recipe import Study
from midistill_tasks.study.sizes import sizes_of
from midistill_tasks.study.work import Work

START = 8.0
"""Seconds that a step takes beside its arithmetic: loading, and for a student the check in a fresh process."""
SHARE = 0.15
"""Of a matrix product's speed, what small models reach; large ones reach more, so that theirs is an upper limit."""


def plan(study: Study) -> str:
    """The steps, one a line, with seconds where the sizes are known beforehand, and what is done already.

    Raises:
        InputError: as `check_output` and `check`: what the study itself would refuse.
    """
    check_output(study)
    work = Work(study)
    check(work, [part for part in work.parts if not work.done(part)])
    sizes, speed = sizes_of(work), _speed()
    lines, total, unknown = [], 0.0, 0
    for part in work.parts:
        step, done = work.step(part), work.done(part)
        cost = 0.0 if done else _seconds(step.cost(study, part, sizes), speed)
        unknown += cost is None
        total += cost or 0.0
        said = "done" if done else "unknown" if cost is None else f"{cost:.0f} s"
        lines.append(f"  {part.name:<24} {step.what:<30} {said:>9}")
    rest = (
        f", and {unknown} steps of a cost that is not known before their models and texts are here" if unknown else ""
    )
    return "\n".join(
        [
            f"{study.output}: {len(lines)} steps, then the report",
            *lines,
            f"about {total / 60:.0f} min on this machine{rest}: a rough estimate from {SHARE:.0%} of the speed that a "
            f"matrix product reached here just now ({speed / 1e9:.0f} GFLOP/s), more where others use the machine",
        ]
    )


def _seconds(operations: float | None, speed: float) -> float | None:
    if operations is None:
        return None
    return START + operations / (SHARE * speed) if operations else 1.0


def _speed() -> float:
    """Operations a second of a matrix product: the best of some tries, since others may use the machine."""
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    matrix = torch.rand(512, 512, device=device)
    best = math.inf
    for _ in range(30):
        start = time.monotonic()
        float((matrix @ matrix)[0, 0])
        best = min(best, time.monotonic() - start)
    return 2.0 * 512**3 / best
