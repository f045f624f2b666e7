"""Attacks that hold a text against a reference model token by token: both models must have the same tokens."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from midistill_tasks.attacks.base import attack
from midistill_tasks.options import option
from midistill_tasks.views import TokenStats, UnscorableError

TINY = 1e-6
"""Nats. Texts that lose nothing anywhere are ranked by what they gain."""
WINDOWS = (2, 3, 4, 6, 9, 13, 18, 25, 32, 40)
"""Lengths in tokens, spaced geometrically, as published."""


def differences(text: TokenStats, reference: TokenStats) -> npt.NDArray[np.float64]:
    """ℓ_t under the target minus ℓ_t under the reference, [n], in nats.

    Raises:
        UnscorableError: the two have other tokens.
    """
    if not np.array_equal(text.tokens, reference.tokens):
        raise UnscorableError(
            "target and reference have other tokens, which this attack pairs one by one: take a reference with the "
            "target's tokenizer (such as the checkpoint that it was fine-tuned from), or the attack 'ref'"
        )
    return text.logprob.astype(np.float64) - reference.logprob.astype(np.float64)


@attack(
    "ez",
    "EZ-MIA: gain over loss against a reference where the target errs",
    source="Ilić et al. 2026",
    needs=("logprob", "greedy", "tokens"),
    by_default=False,
    strong=True,
)
def ez(
    text: TokenStats,
    reference: TokenStats,
    *,
    as_published: bool = option(
        False, "0 for a text that nowhere loses against the reference, as the published code has"
    ),
) -> float:
    """Σ max(d, 0) / (Σ max(−d, 0) + ε) over tokens that are not the target's arg-max; d = ℓ_target − ℓ_reference.

    EZ-MIA (Ilić et al. 2026, arXiv 2601.12104). A text without such a token, all of which the target would have said,
    is judged by all its tokens.

    Against the published code: that gives 0 where no d is negative (`as_published`), which ranks the surest members
    last.
    """
    gaps = differences(text, reference)
    erring = ~text.greedy
    chosen = gaps[erring] if erring.any() else gaps
    gained, lost = float(np.maximum(chosen, 0).sum()), float(np.maximum(-chosen, 0).sum())
    return 0.0 if as_published and lost == 0 else gained / (lost + TINY)


@attack(
    "wbc",
    "WBC: share of windows of tokens that the target predicts better than a reference",
    source="WBC 2026",
    needs=("logprob", "tokens"),
    by_default=False,
    strong=True,
)
def wbc(text: TokenStats, reference: TokenStats) -> float:
    """Mean over the `WINDOWS` that fit of the share of windows in which the reference's loss is the higher.

    Window-based comparison (2026). NaN for a text of fewer than two tokens, which has no window.
    """
    gaps = differences(text, reference)
    shares = [float(np.mean(sliding_window_view(gaps, w).sum(axis=1) > 0)) for w in WINDOWS if w <= len(gaps)]
    return float(np.mean(shares)) if shares else math.nan
