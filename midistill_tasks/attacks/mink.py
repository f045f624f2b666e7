"""Attacks on the least likely tokens of a text."""

from __future__ import annotations

import numpy as np

from midistill_tasks.attacks.base import attack
from midistill_tasks.options import option
from midistill_tasks.views import FloatArray, TokenStats


def _mean_of_lowest(values: FloatArray, k: float) -> float:
    count = max(1, int(k * len(values)))
    return float(np.mean(np.partition(values, count - 1)[:count], dtype=np.float64))


@attack("mink", "Min-K%: the least likely tokens", source="Shi et al. 2024")
def mink(text: TokenStats, *, k: float = option(0.2, "share of the lowest-scoring tokens", gt=0, le=1)) -> float:
    """Mean of the ⌊kT⌋ (at least one) lowest ℓ_t (Min-K%, Shi et al. 2024)."""
    return _mean_of_lowest(text.logprob, k)


@attack(
    "minkpp",
    "Min-K%++: the same, normalised per token",
    source="Zhang et al. 2025",
    needs=("logprob", "moments"),
    strong=True,
)
def minkpp(text: TokenStats, *, k: float = option(0.2, "share of the lowest-scoring tokens", gt=0, le=1)) -> float:
    """Mean of the ⌊kT⌋ (at least one) lowest (ℓ_t − μ_t) / σ_t (Min-K%++, Zhang et al. 2025).

    μ_t and σ_t are mean and standard deviation of log p(v | x_<t) under the model's own distribution of the next token.
    """
    return _mean_of_lowest((text.logprob - text.mean) / text.std, k)


NOTHING_SURPRISING = -100.0


@attack(
    "surp",
    "SURP: unlikely tokens where the model was sure",
    source="Zhang and Wu 2024",
    needs=("logprob", "moments"),
    by_default=False,
)
def surp(
    text: TokenStats,
    *,
    k: float = option(0.4, "share of the lowest-scoring tokens", gt=0, le=1),
    entropy: float = option(2.0, "nats of entropy below which the model was sure", gt=0),
    as_published: bool = option(False, "-100 for a text without such a token, as the published code has"),
) -> float:
    """Mean ℓ_t over tokens among the ⌊kT⌋ (at least one) lowest whose distribution has an entropy −μ_t below `entropy`.

    Zhang and Wu, "Adaptive pre-training data detection for large language models via surprising tokens" (2024).

    Against the published code: where no token is both, that has -100 (`as_published`), which ranks such texts below all
    others. Here the token of the lowest entropy among the lowest ℓ_t stands for them: it is what was left of them just
    before, so the score does not jump.
    """
    count = max(1, int(k * len(text)))
    lowest = np.argsort(text.logprob, kind="stable")[:count]
    sure = lowest[-text.mean[lowest] < entropy]
    if not len(sure):
        if as_published:
            return NOTHING_SURPRISING
        sure = lowest[[np.argmax(text.mean[lowest])]]
    return float(np.mean(text.logprob[sure], dtype=np.float64))
