"""The attacks by shadow models on one target, as results that are measured like all others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from midistill_tasks.compare.shadows import lira, rmia
from midistill_tasks.metrics.scored import BoolArray, FloatArray
from midistill_tasks.results.run import AttackResult

SCORE = "loss"
"""The attack whose score is a text's mean log-probability."""
NAMES = ("lira", "lira_offline", "rmia", "rmia_offline")
"""Online: by shadows that saw the text and others that did not; offline: by the latter alone (RMIA: and one `a`)."""


def shadow_attacks(target: AttackResult, shadows: Sequence[AttackResult]) -> dict[str, AttackResult]:
    """Attack of `NAMES` → its result on the target, over the same texts in the same order.

    RMIA's population are the target's non-members, γ = 1. A score rises with the text's own ratio, so that it learns
    nothing from the labels of others but where the ratios of non-members lie.

    Args:
        target: its attack `SCORE`: mean log-probabilities, and who is a member of the target.
        shadows: the same of each shadow, whose labels say which texts *it* saw.
    """
    losses, inside = matrices(target, shadows)
    a = rmia.fitted_a(losses, inside)
    found = {
        "lira": lira.online(target.scores, losses, inside),
        "lira_offline": lira.offline(target.scores, losses, inside),
        "rmia": rmia.scores(target.scores, rmia.online(losses, inside), ~target.labels),
        "rmia_offline": rmia.scores(target.scores, rmia.offline(losses, inside, a), ~target.labels),
    }
    return {name: _result(target, name, found[name]) for name in NAMES}


def matrices(target: AttackResult, shadows: Sequence[AttackResult]) -> tuple[FloatArray, BoolArray]:
    """The shadows' mean log-probabilities of the target's texts, and which they saw, [S, n] each; matched by id.

    NaN, and not seen, where a shadow lacks a text.
    """
    ids = [item.id for item in target.items]
    rows = [[shadow.by_id.get(id) for id in ids] for shadow in shadows]
    losses = [[math.nan if item is None else item.score for item in row] for row in rows]
    inside = [[item is not None and item.label == 1 for item in row] for row in rows]
    shape = (len(shadows), len(ids))
    return np.array(losses, dtype=np.float64).reshape(shape), np.array(inside, dtype=np.bool_).reshape(shape)


def _result(target: AttackResult, name: str, scores: FloatArray) -> AttackResult:
    items = (item._replace(score=score) for item, score in zip(target.items, scores.tolist(), strict=True))
    return replace(
        target,
        name=f"mia_{name}_{target.split}",
        attack=name,
        items=tuple(items),
        figures={"blind_auroc": target.blind},
        blind_ranks=(),
    )
