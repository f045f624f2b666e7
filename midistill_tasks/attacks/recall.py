"""ReCaLL: how much non-member shots in front of a text change its likelihood."""

from __future__ import annotations

import math

from midistill_tasks.attacks.base import Attack, Stats
from midistill_tasks.attacks.likelihood import mean_logprob
from midistill_tasks.views import AFTER_SHOTS, TEXT, TokenStats


def score_recall(stats: Stats, text: str, as_published: bool) -> float:
    """Mean ℓ after the prefix P over mean ℓ, of the same tokens (Xie et al. 2024).

    P takes up room, so the conditional view may be shorter; the unconditional term is cut to the same tokens, which
    costs no forward because ℓ is causal. `as_published` keeps the one token more, the text's first, that published
    code scores in the conditional term only: that view then leads with it.
    """
    conditional = stats["after_shots"]
    tokens = len(conditional) - 1 if as_published else len(conditional)
    plain = stats["text"]
    if tokens < 1:
        return math.nan
    same = TokenStats(plain.logprob[:tokens], plain.mean[:tokens], plain.std[:tokens], plain.greedy[:tokens], 0)
    unconditional = mean_logprob(same)
    return mean_logprob(conditional) / unconditional if unconditional else math.nan


RECALL = Attack(
    "recall",
    "ReCaLL: log-probability after non-member shots over without",
    "Xie et al. 2024",
    (TEXT, AFTER_SHOTS),
    score_recall,
    ("as_published",),
)
