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
a score has none whatever its coin; the guesser abstains. (midistill 0.1.0 took other shots and cut the larger side: see
`balanced_coins`.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit
from scipy.stats import binom

from midistill_tasks.attacks import ATTACKS
from midistill_tasks.compare import balanced_coins
from midistill_tasks.results.run import AttackResult, Run

GUESSES = 0.1
"""Share of the texts that is called a member, and share that is called a non-member; for the rest the guesser
abstains."""
DELTA = 1e-5
"""The δ > 0 for which a bound is given beside that for δ = 0: what promises of (ε, δ) mostly state."""
_LARGEST = 50.0


@dataclass(frozen=True)
class Epsilon:
    """What one attack shows of a model's ε.

    Attributes:
        task: the attack's task.
        value: ε is at least this at δ = 0, with `confidence`; 0 = no evidence; NaN where the bound does not apply.
        at_delta: the same at δ = `DELTA`.
        ceiling: the bound at δ = 0 if all guesses were right: more cannot be shown with so many texts.
        confidence: that a bound is not above the true ε.
        correct, guesses: right guesses and all guesses; 0 and 0 where the bound does not apply.
        reason: a sentence: what the figure says, or why there is none.
    """

    task: str
    value: float
    at_delta: float
    ceiling: float
    confidence: float
    correct: int
    guesses: int
    reason: str


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


def epsilons(runs: Sequence[Run], split: str, confidence: float = 0.95) -> list[list[Epsilon]]:
    """For each run the bounds of its attacks on a split, all at one confidence, and comparable for it.

    That is 1 − (1 − confidence)/B for the B bounds of all runs together, so that they all hold with `confidence`.
    """
    results = [list(run.on(split).values()) for run in runs]
    bounds = sum(not _not_applicable(result) for of_run in results for result in of_run)
    each = 1 - (1 - confidence) / max(1, bounds)
    return [[epsilon(result, each) for result in of_run] for of_run in results]


def epsilon(result: AttackResult, confidence: float = 0.95) -> Epsilon:
    """The bound of one attack on one model, or why there is none.

    The model (a student with its teacher, its selection and its distillation, too) is the mechanism; the bound is about
    how it treats texts of this split, assigned as they were.
    """
    reason = _not_applicable(result)
    if reason:
        return Epsilon(result.name, math.nan, math.nan, math.nan, confidence, 0, 0, f"no ε: {reason}")
    correct, guesses, texts = _guessed(result)
    value = epsilon_lower_bound(correct, guesses, confidence)
    at_delta = epsilon_lower_bound(correct, guesses, confidence, DELTA, texts)
    ceiling = epsilon_lower_bound(guesses, guesses, confidence)
    found = f"{correct} of {guesses} guesses are right"
    said = f"ε ≥ {value:.2f} at δ = 0 ({found}, {confidence:.2%} confidence)" if value else f"no evidence ({found})"
    if correct == guesses:
        said += "; saturated: so many guesses cannot show more"
    return Epsilon(result.name, value, at_delta, ceiling, confidence, correct, guesses, said + _if_reference(result))


def _if_reference(result: AttackResult) -> str:
    models = {view.model for view in ATTACKS[result.attack].views}
    return "; valid if the reference model saw none of these texts" if "reference" in models else ""


def _guessed(result: AttackResult) -> tuple[int, int, int]:
    """Right guesses, guesses, and the texts that had a coin."""
    after = result.metadata.get("coins_after")
    if after is None:
        return balanced_coins.right_guesses(result, GUESSES)
    fair = np.array([item.id > after for item in result.items])
    each_side = int(GUESSES * fair.sum())
    kept = fair & ~np.isnan(result.scores)
    rising = result.labels[kept][np.argsort(result.scores[kept], kind="stable")]  # ties by id, a hash of the text
    right = int((~rising[:each_side]).sum() + rising[::-1][:each_side].sum())
    return right, 2 * each_side, int(fair.sum())


def _not_applicable(result: AttackResult) -> str:
    """Why the theorem says nothing of this task; "" where it applies."""
    counts, options = result.metadata["counts"], result.metadata["options"]
    known = ATTACKS.get(result.attack)
    if not result.metadata["independent_coins"]:
        return f"the members of {result.split} were not chosen by independent fair coins, so the bound does not apply"
    if known is None:
        return f"the attack {result.attack} is not one that midistill knows, so its scores may know labels"
    if known.knows_labels:
        return "the attack puts texts of a known side in front of each text, so its scores know labels beside the model"
    if len(set(result.clusters)) < len(result.clusters):
        return "several texts come from one document, so they do not have a coin each"
    if counts["duplicates"] or counts["both_sides"]:
        return f"{counts['duplicates'] + counts['both_sides']} texts stand twice, so they do not have a coin each"
    if options.get("n") is not None or len(result.items) != counts["members"] + counts["nonmembers"]:
        return "only a part of the texts was scored; run without the option n and without --limit"
    scored = int((~np.isnan(result.scores)).sum())
    return (
        "fewer than 100 texts, or than half of them, have a score" if scored < max(100, len(result.items) / 2) else ""
    )
