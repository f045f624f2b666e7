"""The row to publish: the strongest of the default attacks, chosen on one half of the texts, judged on the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from midistill_tasks.attacks.base import Attack, attack
from midistill_tasks.attacks.combined import VIEWS, parts, score_of
from midistill_tasks.views import TokenStats


@attack(
    "strongest",
    "the row to publish: the strongest of the default attacks, chosen on one half of the texts, judged on the other",
    source="all of these",
    views=VIEWS,
    optional=("reference", "after_shots"),
    by_default=False,
    fitted=True,
    picks=True,
)
def strongest(seen: Mapping[str, TokenStats]) -> Sequence[float]:
    """The score, as a rank, of the default attack that tells the other half of the texts best.

    Each has its default options, so that rows of different runs compare. NaN for what the run has no reference for, the
    backend no statistic or the text no score.
    """
    return [score_of(part, seen) for part in candidates()]


def candidates() -> list[Attack]:
    """The attacks of ``mia_<split>``, among which one is chosen."""
    return [part for part in parts() if part.by_default]
