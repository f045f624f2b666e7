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
)
def minkpp(text: TokenStats, *, k: float = option(0.2, "share of the lowest-scoring tokens", gt=0, le=1)) -> float:
    """The same over (ℓ_t − μ_t) / σ_t, μ and σ under the model's own distribution (Min-K%++, Zhang et al. 2025)."""
    return _mean_of_lowest((text.logprob - text.mean) / text.std, k)
