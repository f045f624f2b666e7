"""PAC: how far a text's surest and least sure tokens lie apart, beside the same text with words swapped."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from midistill_tasks.attacks.base import Views, attack
from midistill_tasks.options import option
from midistill_tasks.views import TEXT, TokenStats, View, bound

HIGHEST, LOWEST = 0.05, 0.3
"""Shares of the tokens at either end, as published."""


def swapped(number: int, share: float, text: str) -> str:
    """The text with pairs of its words swapped, `share` of the words (one pair at least); white space stays.

    The same text, number and share give the same variant on every machine.
    """
    parts = re.split(r"(\s+)", text)
    places = [index for index, part in enumerate(parts) if part and not part.isspace()]
    if len(places) < 2:
        return text
    seed = hashlib.sha256(f"{number}:{share}:{text}".encode()).digest()[:8]
    pairs = max(1, int(share * len(places) / 2))
    moved = np.random.default_rng(int.from_bytes(seed, "big")).permutation(places)[: 2 * pairs].tolist()
    for one, other in zip(moved[::2], moved[1::2], strict=True):
        parts[one], parts[other] = parts[other], parts[one]
    return "".join(parts)


def _views(options: Mapping[str, Any]) -> Views:
    numbers = range(1, options["variants"] + 1)
    return (
        TEXT,
        *(View(f"swapped_{n}_{options['swapped']}", transform=bound(swapped, n, options["swapped"])) for n in numbers),
    )


def polarised_distance(stats: TokenStats) -> float:
    """Mean of the highest 5 % of ℓ_t minus that of the lowest 30 %, at least one token each."""
    ordered = np.sort(stats.logprob.astype(np.float64))
    high, low = (max(1, int(share * len(ordered))) for share in (HIGHEST, LOWEST))
    return float(ordered[-high:].mean() - ordered[:low].mean())


@attack(
    "pac",
    "PAC: spread of the log-probabilities against variants with words swapped",
    source="Ye et al. 2024",
    views=_views,
    by_default=False,
)
def pac(
    text: TokenStats,
    *changed: TokenStats,
    variants: int = option(5, "variants of a text, with words swapped", ge=1, le=100),
    swapped: float = option(0.3, "share of a text's words that are swapped in a variant", gt=0, le=1),
) -> float:
    """−(PD(text) − mean PD(variants)); PD = mean of the highest 5 % of ℓ_t minus of the lowest 30 % (Ye et al. 2024).

    "Data contamination calibration for black-box LLMs", ACL 2024; PD is `polarised_distance`. Training lifts a member's
    least likely tokens, so that its ends lie closer together than those of a variant which nobody trained on; hence the
    sign.
    """
    return float(np.mean([polarised_distance(variant) for variant in changed])) - polarised_distance(text)
