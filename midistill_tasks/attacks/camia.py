"""CAMIA: how a text's loss develops from token to token, put together by what other texts' labels teach."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from midistill_tasks.attacks.base import attack
from midistill_tasks.views import TEXT, IntArray, TokenStats

FloatArray = npt.NDArray[np.float64]
CUTS = (0.25, 0.5, 1.0)
"""Shares of the tokens, from the first."""
THRESHOLDS = (1.0, 2.0, 3.0)
"""Nats of loss."""
BINS = (3, 4, 5)
EMBEDDING, TOLERANCE = 2, 0.2
"""Of the approximate entropy, the tolerance in standard deviations."""
ROWS = 256
"""Beginnings that are compared with all others together."""


@attack(
    "camia",
    "CAMIA: dynamics of the loss along the text, learnt on half of the texts",
    source="Chang et al. 2025",
    needs=("logprob", "tokens"),
    views=(TEXT,),
    by_default=False,
    fitted=True,
    metrics=("dataset_p_value",),
)
def camia(seen: Mapping[str, TokenStats]) -> Sequence[float]:
    """A cross-fitted regression on signals of the losses −ℓ_t (Chang et al. 2025).

    "Context-aware membership inference attacks". Mean and slope over the first quarter, half and all tokens; the share
    of losses below 1, 2 and 3 nats and below the mean of those before; approximate entropy; Lempel-Ziv complexity in 3,
    4 and 5 bins; the mean loss over the share of distinct tokens; and the loss of tokens that stood in the text before.

    Against the paper: the regression is learnt on half of the judged texts, not on others, and the text is not repeated
    to the model.
    """
    text = seen["text"]
    losses = -np.maximum(text.logprob.astype(np.float64), -1e3)  # an impossible token is finite here
    return list(_signals(losses, text.tokens))


def _signals(losses: FloatArray, tokens: IntArray) -> Iterator[float]:
    for cut in CUTS:
        beginning = losses[: max(1, int(cut * len(losses)))]
        yield float(beginning.mean())
        yield slope(beginning)
    for threshold in THRESHOLDS:
        yield float((losses < threshold).mean())
    before = np.cumsum(losses)[:-1] / np.arange(1, len(losses))
    yield float((losses[1:] < before).mean()) if len(before) else 0.0
    yield approximate_entropy(losses)
    for bins in BINS:
        yield lempel_ziv(losses, bins)
    first = np.unique(tokens, return_index=True)[1]
    yield float(losses.mean() * len(losses) / len(first))
    again = np.delete(losses, first)
    yield float(again.mean()) if len(again) else float(losses.mean())


def slope(values: FloatArray) -> float:
    """Of the least-squares line over the positions; 0 for one value."""
    position = np.arange(len(values)) - (len(values) - 1) / 2
    return float(position @ values / (position @ position)) if len(values) > 1 else 0.0


def approximate_entropy(values: FloatArray) -> float:
    """Pincus 1991 with m = 2 and r = 0.2 standard deviations; 0 for fewer than four values."""
    if len(values) < EMBEDDING + 2:
        return 0.0
    tolerance = TOLERANCE * values.std()

    def phi(m: int) -> float:
        runs = np.lib.stride_tricks.sliding_window_view(values, m)
        # Some rows at a time: all pairs of a text of 32,000 tokens would be gigabytes.
        alike = [
            np.logical_and.reduce([np.abs(some[:, k, None] - runs[:, k]) <= tolerance for k in range(m)]).mean(axis=1)
            for some in np.array_split(runs, -(-len(runs) // ROWS))
        ]
        return float(np.log(np.concatenate(alike)).mean())

    return phi(EMBEDDING) - phi(EMBEDDING + 1)


def lempel_ziv(values: FloatArray, bins: int) -> float:
    """Distinct phrases of the values in bins of equal width (Lempel and Ziv 1978), over what chance gives: n/log n."""
    low, high = float(values.min()), float(values.max())
    codes = np.minimum(((values - low) / (high - low) * bins).astype(int), bins - 1) if high > low else values * 0
    phrases: set[tuple[int, ...]] = set()
    phrase: tuple[int, ...] = ()
    for code in codes.astype(int).tolist():
        phrase = (*phrase, code)
        if phrase not in phrases:
            phrases.add(phrase)
            phrase = ()
    return len(phrases) * math.log(len(values) + 1) / len(values)
