"""Attacks on the mean log-likelihood of a text: plain, and against two yardsticks of how hard the text is."""

from __future__ import annotations

import zlib as compression

import numpy as np

from midistill_tasks.attacks.base import Attack, Stats
from midistill_tasks.views import REFERENCE, TEXT, TokenStats


def mean_logprob(stats: TokenStats) -> float:
    """Mean ℓ_t over the scored tokens, in nats per token, summed in float64."""
    return float(np.mean(stats.logprob, dtype=np.float64))


def score_loss(stats: Stats, text: str) -> float:
    """Mean ℓ, the negative loss (Yeom et al. 2018)."""
    return mean_logprob(stats["text"])


def score_zlib(stats: Stats, text: str) -> float:
    """Mean ℓ over the compressed size in bytes of the part of the text that was scored (Carlini et al. 2021)."""
    scored = text[: stats["text"].n_chars].encode("utf-8")
    return mean_logprob(stats["text"]) / len(compression.compress(scored))


def score_ref(stats: Stats, text: str) -> float:
    """Mean ℓ minus the mean ℓ of a reference model under its own tokenizer (Carlini et al. 2021)."""
    return mean_logprob(stats["text"]) - mean_logprob(stats["reference"])


LOSS = Attack("loss", "mean log-probability of the text", "Yeom et al. 2018", (TEXT,), score_loss)
ZLIB = Attack("zlib", "mean log-probability over the zlib size of the text", "Carlini et al. 2021", (TEXT,), score_zlib)
REF = Attack(
    "ref", "mean log-probability against a reference model's", "Carlini et al. 2021", (TEXT, REFERENCE), score_ref
)
