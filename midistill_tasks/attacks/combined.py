"""What an attacker who knows the side of other texts makes of all scores together."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from midistill_tasks.attacks.base import ATTACKS, Attack, attack
from midistill_tasks.options import defaults
from midistill_tasks.views import AFTER_SHOTS, REFERENCE, TEXT, TokenStats, UnscorableError

VIEWS = (TEXT, AFTER_SHOTS, REFERENCE)


@attack(
    "combined",
    "all attacks on the text, after shots and under the reference together, learnt on half of the texts",
    source="all of these",
    views=VIEWS,
    optional=("reference", "after_shots"),
    by_default=False,
    strong=True,
    fitted=True,
    metrics=("dataset_p_value",),
)
def combined(seen: Mapping[str, TokenStats]) -> Sequence[float]:
    """A cross-fitted regression on the scores of all attacks on these views, each under its default options.

    What the run has no reference for, the backend no statistic or the text no score (NaN for all texts), is left out.
    """
    return [score_of(part, seen) for part in parts()]


def parts() -> Iterator[Attack]:
    """The attacks whose views are among these, other packages' included."""
    for part in ATTACKS.values():
        if not part.fitted and set(part.views) <= set(VIEWS) and "frequency" not in part.needs:
            yield part


def score_of(part: Attack, seen: Mapping[str, TokenStats]) -> float:
    """Its score under its default options; NaN where these views, or what they hold, do not allow one."""
    if any(view.name not in seen or part.needs - seen[view.name].has for view in part.views):
        return math.nan
    try:
        return part.score(seen, defaults(part.fields))
    except UnscorableError:
        return math.nan
