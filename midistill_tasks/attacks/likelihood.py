"""Attacks on the mean log-likelihood of a text: plain, and against three yardsticks of how hard the text is."""

from __future__ import annotations

import math
import zlib as compression

import numpy as np

from midistill_tasks.attacks.base import attack
from midistill_tasks.views import TokenStats


def mean_logprob(stats: TokenStats) -> float:
    """Mean ℓ_t over the scored tokens, in nats per token, summed in float64."""
    return float(np.mean(stats.logprob, dtype=np.float64))


@attack("loss", "mean log-probability of the text", source="Yeom et al. 2018")
def loss(text: TokenStats) -> float:
    """Mean ℓ, the negative loss (Yeom et al. 2018)."""
    return mean_logprob(text)


@attack(
    "zlib",
    "mean log-probability over the zlib size of the text",
    source="Carlini et al. 2021",
    needs=("logprob", "words"),
)
def zlib(text: TokenStats) -> float:
    """Mean ℓ over the compressed size in bytes of the part of the text that was scored (Carlini et al. 2021)."""
    return mean_logprob(text) / len(compression.compress(text.words.encode("utf-8")))


@attack("ref", "mean log-probability against a reference model's", source="Carlini et al. 2021", strong=True)
def ref(text: TokenStats, reference: TokenStats) -> float:
    """Mean ℓ minus the mean ℓ of a reference model under its own tokenizer (Carlini et al. 2021)."""
    return mean_logprob(text) - mean_logprob(reference)


@attack(
    "lowercase",
    "log-probability of the text in lower case over that of the text",
    source="Carlini et al. 2021",
    by_default=False,
)
def lowercase(text: TokenStats, lower: TokenStats) -> float:
    """Mean ℓ of the text in lower case over mean ℓ of the text (Carlini et al. 2021, section 4.2).

    What was learnt by heart loses much by another spelling. NaN where the text is certain.

    Against the paper: it has the ratio of perplexities; this is that of their logarithms, as in zlib.
    """
    plain = mean_logprob(text)
    return mean_logprob(lower) / plain if plain else math.nan
