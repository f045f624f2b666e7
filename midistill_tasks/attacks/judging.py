"""An attack on texts: from a text's statistics to its score, or to the features that labels make scores of."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from midistill_tasks.attacks.base import Attack, common_part, covered
from midistill_tasks.attacks.strongest import candidates
from midistill_tasks.metrics import Scored
from midistill_tasks.metrics.crossfit import crossfit_choice, crossfit_scores, pick_strongest
from midistill_tasks.metrics.scored import FloatArray, IntArray
from midistill_tasks.metrics.thresholds import folds
from midistill_tasks.views import Generated, TokenStats, UnscorableError, Unscored, View

UNDEFINED = "the score is not defined for it"
CHOSEN = "crossfit"
"""The filter of the score by the variant that was chosen on the other half of the texts."""


class TextScore(NamedTuple):
    """A document's score (NaN = none), from how many tokens of its first view, and whether the model cut the text."""

    score: float
    n_tokens: int = 0
    truncated: bool = False


class Found(NamedTuple):
    """What a document's answers came to: a score by filter, or the features of which it will be made, or why not."""

    length: TextScore
    scores: Mapping[str, float] = {}
    features: Sequence[float] = ()
    why: str = ""
    silent: bool = False
    common_part: bool = False
    beside: Mapping[str, Any] = {}

    @property
    def taught_by(self) -> Sequence[float]:
        """What a score is learnt from: features, or the score of each variant."""
        return self.features or list(self.scores.values())


def filters_of(variants: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The harness's filters, the score that counts first."""
    return [*([CHOSEN] if len(variants) > 1 else []), *variants]


def judged_text(
    attack: Attack, variants: Mapping[str, Mapping[str, Any]], given: Mapping[View, TokenStats | Unscored | Generated]
) -> Found:
    """An attack on one text.

    Args:
        attack: which.
        variants: filter → options, see `harness.options.Options.variants`.
        given: the attack's views (others are not looked at).
    """
    answers = {
        view: given[view]
        for view in attack.views_over(variants)
        if view in given and (view.name not in attack.optional or not isinstance(given[view], Unscored))
    }
    scored = [answer for answer in answers.values() if isinstance(answer, TokenStats)]
    end = None if attack.picks else covered(scored)
    unequal = end is not None and any((answer.n_chars or 0) > end for answer in scored)
    if refused := next((answer for answer in answers.values() if isinstance(answer, Unscored)), None):
        return Found(TextScore(math.nan), why=refused.reason, silent=refused.whole_task, common_part=unequal)
    seen: dict[View, Any] = {view: answer for view, answer in answers.items() if not isinstance(answer, Unscored)}
    length = TextScore(math.nan, len(common_part(list(seen.values()))[0]), next(iter(seen.values())).truncated)
    found = Found(length, common_part=unequal)
    try:
        if attack.fitted:
            return found._replace(features=attack.features({view.name: seen[view] for view in seen}, {}))
        scores = {
            name: attack.score({view.name: seen[view] for view in attack.views_of(options)}, options)
            for name, options in variants.items()
        }
        return found._replace(scores=scores)
    except UnscorableError as error:
        return Found(TextScore(math.nan), why=str(error), common_part=unequal)


@dataclass(frozen=True)
class Taught:
    """What labels made of n texts' features.

    Attributes:
        scores: [n], of the first filter.
        why: there are none; "" where there are.
        filter: of these scores.
        attacks: of an attack that `picks`: whose scores the features are, and
        features: these, [n, d], and
        halves: the half of each text, [n], and
        picked: by half, the attack by which it is judged; empty where none could be chosen.
    """

    scores: FloatArray
    why: str
    filter: str
    attacks: tuple[str, ...] = ()
    features: FloatArray | None = None
    halves: IntArray | None = None
    picked: tuple[str, ...] = ()

    def beside(self, row: int) -> dict[str, Any]:
        """What a sample says of the attack whose score the text of this row has, and all scores; else nothing."""
        if self.features is None or self.halves is None:
            return {}
        half = int(self.halves[row])
        return {
            "attack": self.picked[half] if self.picked else None,
            "half": half,
            "scores": dict(zip(self.attacks, self.features[row].tolist(), strict=True)),
        }


def taught(attack: Attack, features: FloatArray, items: Sequence[Scored]) -> Taught:
    """The scores that labels teach: from features, or the choice among variants.

    Args:
        attack: which.
        features: [n, d], NaN where a text has none.
        items: labels, ids and clusters, [n].
    """
    if attack.picks:
        attacks = [part.name for part in candidates()][: features.shape[1]]
        scores, picked = pick_strongest(features.T, attacks, items)
        why = "" if picked else "too few texts of a class in either half to choose an attack on"
        return Taught(scores, why, "none", tuple(attacks), features, folds(items), picked)
    scores = crossfit_scores(features, items) if attack.fitted else crossfit_choice(features.T, items)
    why = "too few texts of a class in either half to learn from" if np.isnan(scores).all() else ""
    return Taught(scores, why, "none" if attack.fitted else CHOSEN)
