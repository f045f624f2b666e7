"""A lower bound on ε from one training run: Steinke, Nasr and Jagielski, "Privacy Auditing with One (1) Training Run",
NeurIPS 2023 (arXiv 2305.08846).

**The bound.** If each text is put into the training data by a fair coin of its own and training is (ε, δ)-DP (adding or
removing one text), then of r guesses made from the model alone, v or more are right with a chance of at most

    P[Bin(r, q) ≥ v] + 2·m·δ · max over i of P[v > Bin(r, q) ≥ v − i] / i,    q = e^ε / (1 + e^ε),

with m the texts that had a coin (corollary 5.4 and appendix D). The bound is the smallest ε for which that is not below
1 − confidence. The numbers of guesses are fixed beforehand (`GUESSES`): the highest scores are called members, the
lowest non-members. Even if all guesses are right the bound is finite: the `ceiling` of so many guesses.

**On which texts.** Shots are non-members that are taken out after the coins were tossed. They are the first ones by id,
a hash of the text (`splits.documents.prepare`); of the texts after the last of them nobody knows by that how their
coins fell. So the guesses are made on these: their coins are fair, also given all others and all shots. A text without
a score has none whatever its coin; the guesser abstains.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit
from scipy.stats import binom

from midistill_tasks.errors import warn_once
from midistill_tasks.metrics.scored import Scored

GUESSES = 0.1
"""Share of the texts that is called a member, and share that is called a non-member; for the rest the guesser
abstains."""
FEWEST = 100
"""Texts with a score, below which no bound is given: not even perfect guesses would show much."""
_LARGEST = 50.0


def epsilon_lower_bound(
    correct: int, guesses: int, confidence: float = 0.95, delta: float = 0.0, texts: int | None = None
) -> float:
    """The smallest ε under which so many right guesses had a chance above 1 − confidence; 0 = no evidence.

    Args:
        correct, guesses: v and r.
        confidence: that the bound is not above the true ε.
        delta: δ of the promise.
        texts: m, all that had a coin; by default the guessed ones.
    """
    m = guesses if texts is None else texts

    def excess(eps: float) -> float:
        return chance(correct, guesses, eps, delta, m) - (1 - confidence)

    if excess(0.0) > 0:
        return 0.0
    return float(brentq(excess, 0.0, _LARGEST, xtol=1e-9)) if excess(_LARGEST) > 0 else _LARGEST


def chance(correct: int, guesses: int, eps: float, delta: float, texts: int) -> float:
    """The largest chance of `correct` or more right guesses under (ε, δ)-DP; the module has the formula."""
    q = float(expit(eps))
    at_least = binom.sf(np.arange(correct - 1, -2, -1), guesses, q)  # of v, v − 1, …, 0
    worst = float(np.max((at_least[1:] - at_least[0]) / np.arange(1, len(at_least)), initial=0.0))
    return float(at_least[0]) + 2 * texts * delta * worst


class Guessed(NamedTuple):
    """Right guesses, guesses, and the texts that had a coin."""

    correct: int
    guesses: int
    texts: int


def guessed(items: Sequence[Scored], after: str) -> Guessed:
    """What comes out where the highest scores are called members and the lowest non-members.

    Args:
        items: the texts of a task, in any order.
        after: the largest id of the shots; only the coins of texts after it are fair.
    """
    fair = sorted((item for item in items if item.id > after), key=lambda item: item.id)
    each_side = int(GUESSES * len(fair))
    kept = [item for item in fair if not math.isnan(item.score)]
    rising = [item.label for item in sorted(kept, key=lambda item: item.score)]  # ties by id, a hash of the text
    right = rising[:each_side].count(0) + rising[::-1][:each_side].count(1)
    return Guessed(right, 2 * each_side, len(fair))


def why_not(
    items: Sequence[Scored], about: Mapping[str, Any], split: str, attack: str, knows_labels: bool | None
) -> str:
    """Why the theorem says nothing of a task; "" where it applies.

    Args:
        items: the scored texts.
        about: read here: ``independent_coins``, ``counts``, ``options`` (``n``) and ``learnt``, as results have them.
        split, attack: their names, for the sentence.
        knows_labels: whether the attack's scores depend on labels beside the model; None = nobody knows that attack.
    """
    counts = about["counts"]
    if not about["independent_coins"]:
        return f"the members of {split} were not chosen by independent fair coins, so the bound does not apply"
    if knows_labels is None:
        return f"the attack {attack} is not one that midistill knows, so its scores may know labels"
    if knows_labels:
        return "the attack puts texts of a known side in front of each text, so its scores know labels beside the model"
    if about.get("learnt"):
        return "the value of an option was chosen by the labels of other texts, so the scores know labels, too"
    if shared := _shared(items):
        return shared
    if counts["duplicates"] or counts["both_sides"]:
        return f"{counts['duplicates'] + counts['both_sides']} texts stand twice, so they do not have a coin each"
    if about["options"].get("n") is not None or len(items) != counts["members"] + counts["nonmembers"]:
        return "only a part of the texts was scored; run without the option n and without --limit"
    return why_few(items)


def epsilon_of_task(
    items: Sequence[Scored], about: Mapping[str, Any], split: str, attack: str, knows_labels: bool | None
) -> float:
    """`epsilon_lower` of a task of the harness; NaN, with a warning that says why, where the theorem says nothing of
    it. Arguments as of `why_not`; also read of `about`: ``coins_after``."""
    why = why_not(items, about, split, attack, knows_labels)
    if why:
        warn_once(f"[mia_{attack}_{split}] epsilon_lower is NaN: {why}")
        return math.nan
    return epsilon_lower(items, about["coins_after"])


def why_few(items: Sequence[Scored]) -> str:
    """Why there is no bound on so few scored texts; "" where there are enough."""
    scored = sum(not math.isnan(item.score) for item in items)
    few = scored < max(FEWEST, len(items) / 2)
    return f"fewer than {FEWEST} texts, or than half of them, have a score" if few else ""


def _shared(items: Sequence[Scored]) -> str:
    shared = len({item.cluster for item in items}) < len(items)
    return "several texts come from one document, so they do not have a coin each" if shared else ""


def epsilon_lower(items: Sequence[Scored], after: str = "") -> float:
    """The bound at 95 % confidence and δ = 0, of texts that had a fair coin each; NaN where they are too few.

    That coins chose, and that the scores know no labels, is for the caller to know: see `why_not`.
    """
    if _shared(items) or why_few(items):
        return math.nan
    found = guessed(items, after)
    return epsilon_lower_bound(found.correct, found.guesses)
