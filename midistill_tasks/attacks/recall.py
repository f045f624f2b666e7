"""ReCaLL: how much non-member shots in front of a text change its likelihood."""

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

WHOLE_AFTER_SHOTS = replace(AFTER_SHOTS, first_token="always")


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
    costs no forward because ℓ is causal. `as_published` keeps the one token more, the text's first, that published
    code scores in the conditional term only: that view then leads with it.
    """
    tokens = len(after_shots) - 1 if as_published else len(after_shots)
    if tokens < 1:
        return math.nan
    unconditional = float(np.mean(text.logprob[:tokens], dtype=np.float64))
    return mean_logprob(after_shots) / unconditional if unconditional else math.nan
