"""The trivial defences of a study: the vanilla student stopped early, and trained on fewer texts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field, field_validator, model_validator

from midistill_tasks.options import Strict

if TYPE_CHECKING:
    from midistill_tasks.study.recipe import Study

EARLIEST = 1 / 32
"""Share of the steps at which the first checkpoint lies; before that a student has learnt next to nothing."""


class Frontier(Strict):
    """What every arm is held against at its own perplexity: students of the vanilla arm with less training."""

    checkpoints: int = Field(
        6, ge=0, le=50, description="of the vanilla student's training, from 1/32 of its steps on, evenly by logarithm"
    )
    keep: list[float] = Field(
        [0.25, 0.5, 0.75], description="vanilla students on these shares of the texts, drawn at random; one each a seed"
    )

    @field_validator("keep")
    @classmethod
    def _shares(cls, shares: list[float]) -> list[float]:
        for share in shares:
            if not 0 < share < 1:
                raise ValueError(f"{share:g} is no share of the texts: give shares above 0 and below 1, such as 0.5")
        if len(set(shares)) < len(shares):
            raise ValueError("give each share once")
        return sorted(shares)

    @model_validator(mode="after")
    def _some(self) -> Frontier:
        if not (self.checkpoints or self.keep):
            raise ValueError("no student is on this frontier: give checkpoints above 0, or keep, or remove the section")
        return self


def vanilla(study: Study) -> str | None:
    """The first arm that changes nothing, which the frontier is of; None where there is none."""
    return next((name for name, arm in study.arms.items() if not (arm.chosen or arm.changes)), None)


def stopped(study: Study, seed: int) -> dict[str, float]:
    """Name of each of a seed's checkpoints, ``ARM@stop-K/SEED`` → share of the steps, rising."""
    if study.frontier is None:
        return {}
    shares = np.geomspace(EARLIEST, 1, study.frontier.checkpoints + 1)[:-1]
    return {f"{vanilla(study)}@stop-{number}/{seed}": float(share) for number, share in enumerate(shares, start=1)}


def fewer(study: Study, seed: int) -> dict[str, float]:
    """Name of each of a seed's students on fewer texts, ``ARM@keep-SHARE/SEED`` → share of the texts, rising."""
    if study.frontier is None:
        return {}
    return {f"{vanilla(study)}@keep-{share:g}/{seed}": share for share in study.frontier.keep}


def arm_of(name: str) -> str:
    """The arm of ``ARM/SEED``, also of a student of the frontier (no arm's name holds an @)."""
    return name.rpartition("/")[0].partition("@")[0]


def places(study: Study, students: Path) -> Mapping[str, Any]:
    """For the report: seed → what a student is, in words → where its results are, of those that are there."""
    from midistill_tasks.distill.callbacks.milestones import STOPPED

    root = Path(study.output)

    def there(named: Mapping[str, str]) -> dict[str, str]:
        found = {what: f"results/{name}" for name, what in named.items()}
        return {what: place for what, place in found.items() if (root / place).exists()}

    def at_step(name: str) -> str:
        file = students / name / STOPPED
        said = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        return f"checkpoint {name.partition('@stop-')[2].partition('/')[0]}" + (
            f", step {said['step']} of {said['steps']}" if said else ""
        )

    return {
        "arm": vanilla(study),
        "stopped": {str(seed): there({name: at_step(name) for name in stopped(study, seed)}) for seed in study.seeds},
        "fewer": {
            str(seed): there({name: f"on {share:.4g} of the texts" for name, share in fewer(study, seed).items()})
            for seed in study.seeds
        },
    }
