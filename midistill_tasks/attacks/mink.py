"""Attacks on the least likely tokens of a text."""

from __future__ import annotations

import numpy as np

from midistill_tasks.attacks.base import Attack, Stats
from midistill_tasks.views import TEXT, FloatArray


def _mean_of_lowest(values: FloatArray, k: float) -> float:
    count = max(1, int(k * len(values)))
    return float(np.mean(np.partition(values, count - 1)[:count], dtype=np.float64))


def score_mink(stats: Stats, text: str, k: float) -> float:
    """Mean of the ⌊kT⌋ (at least one) lowest ℓ_t (Min-K%, Shi et al. 2024)."""
    return _mean_of_lowest(stats["text"].logprob, k)


def score_minkpp(stats: Stats, text: str, k: float) -> float:
    """The same over (ℓ_t − μ_t) / σ_t, μ and σ under the model's own distribution (Min-K%++, Zhang et al. 2025)."""
    seen = stats["text"]
    return _mean_of_lowest((seen.logprob - seen.mean) / seen.std, k)


MINK = Attack("mink", "Min-K%: the least likely tokens", "Shi et al. 2024", (TEXT,), score_mink, ("k",))
MINKPP = Attack(
    "minkpp", "Min-K%++: the same, normalised per token", "Zhang et al. 2025", (TEXT,), score_minkpp, ("k",)
)
