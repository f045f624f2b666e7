"""How much non-member shots in front of a text change its likelihood (ReCaLL), and member shots beside (Con-ReCaLL)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from midistill_tasks.attacks.base import Views, attack
from midistill_tasks.attacks.likelihood import mean_logprob
from midistill_tasks.options import option
from midistill_tasks.views import AFTER_SHOTS, TEXT, TokenStats

WHOLE_AFTER_SHOTS = replace(AFTER_SHOTS, name="after_shots_whole", first_token="always")


def _views(options: Mapping[str, Any]) -> Views:
    return (TEXT, WHOLE_AFTER_SHOTS if options["as_published"] else AFTER_SHOTS)


@attack(
    "recall",
    "ReCaLL: log-probability after non-member shots over without",
    source="Xie et al. 2024",
    views=_views,
    strong=True,
)
def recall(
    text: TokenStats,
    after_shots: TokenStats,
    *,
    as_published: bool = option(
        False, "score the first token in the conditional term only, as the published code does"
    ),
) -> float:
    """Mean ℓ after the prefix P over mean ℓ, of the same tokens (Xie et al. 2024).

    P takes up room, so the conditional view may be shorter; the unconditional term is cut to the same tokens, which
    costs no forward because ℓ is causal.

    Against the published code: that scores one token more, the text's first, in the conditional term only;
    `as_published` does so, and the conditional view then leads with it.
    """
    tokens = len(after_shots) - 1 if as_published else len(after_shots)
    if tokens < 1:
        return math.nan
    unconditional = float(np.mean(text.logprob[:tokens], dtype=np.float64))
    return mean_logprob(after_shots) / unconditional if unconditional else math.nan


@attack(
    "conrecall",
    "Con-ReCaLL: log-probability after non-member less after member shots, over without",
    source="Wang et al. 2025",
    by_default=False,
)
def conrecall(
    text: TokenStats,
    after_shots: TokenStats,
    after_member_shots: TokenStats,
    *,
    gamma: float = option(0.5, "weight of the log-probability after member shots", ge=0),
) -> float:
    """(mean ℓ after non-members − γ · mean ℓ after members) / mean ℓ, of the same tokens (Wang et al. 2025).

    The member shots are the split's first members; they have no score here, and no other attack loses them.
    """
    tokens = min(len(after_shots), len(after_member_shots))
    means = [
        float(np.mean(seen.logprob[:tokens], dtype=np.float64)) for seen in (text, after_shots, after_member_shots)
    ]
    return (means[1] - gamma * means[2]) / means[0] if means[0] else math.nan
