"""A task ``mia_strongest_<split>``: the row to publish, and the attacks that it chooses among, all from its samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from midistill_tasks.attacks import ATTACKS
from midistill_tasks.metrics.estimate import Estimate
from midistill_tasks.options import defaults
from midistill_tasks.results.run import AttackResult, Published


def picks(attack: str) -> bool:
    """Whether it is no attack of its own, but the choice among others."""
    return attack in ATTACKS and ATTACKS[attack].picks


def published(result: AttackResult) -> Published:
    """The row to publish."""
    unknown = Estimate(math.nan, math.nan)
    auroc, tpr = (result.figures.get(name, unknown) for name in ("auroc", "tpr_at_1pct_fpr"))
    return Published(result.name, auroc, tpr, result.blind, tuple(map(str, result.metadata.get("chosen", ()))))


def part(picked: AttackResult, attack: str, scores: Sequence[float]) -> AttackResult:
    """One of the attacks among which another picks, under that attack's default options."""
    own = defaults(ATTACKS[attack].fields) if attack in ATTACKS else {}
    kept = {key: value for key, value in picked.metadata.items() if key not in ("learnt", "chosen")}
    return replace(
        picked,
        name=f"mia_{attack}_{picked.split}",
        attack=attack,
        items=tuple(item._replace(score=score) for item, score in zip(picked.items, scores, strict=True)),
        figures={"blind_auroc": picked.blind},
        metadata={**kept, "attack": attack, "options": {**kept["options"], **own}},
    )
