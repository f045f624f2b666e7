"""What each attack shows of a model's ε, by the one-run bound of `metrics.epsilon`, which has the theorem.

midistill 0.1.0 took other shots and cut the larger side: see `balanced_coins`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from midistill_tasks.attacks import ATTACKS
from midistill_tasks.compare import balanced_coins
from midistill_tasks.metrics.epsilon import GUESSES, Guessed, epsilon_lower_bound, guessed, why_few, why_not
from midistill_tasks.metrics.scored import Scored
from midistill_tasks.results.run import AttackResult, Run

DELTA = 1e-5
"""The δ > 0 for which a bound is given beside that for δ = 0: what promises of (ε, δ) mostly state."""
IF_REFERENCE = "valid if the reference model saw none of these texts"


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


def epsilons(runs: Sequence[Run], split: str, confidence: float = 0.95) -> list[list[Epsilon]]:
    """For each run the bounds of its attacks on a split, all at one confidence, and comparable for it.

    That is `of_each` for the bounds of all runs together, so that they all hold with `confidence`.
    """
    results = [list(run.on(split).values()) for run in runs]
    bounds = sum(not why_no_bound(result) for of_run in results for result in of_run)
    each = of_each(confidence, bounds)
    return [[epsilon(result, each) for result in of_run] for of_run in results]


def of_each(confidence: float, bounds: int) -> float:
    """The confidence of each of so many bounds that shall hold together with `confidence` (Bonferroni)."""
    return 1 - (1 - confidence) / max(1, bounds)


def epsilon(result: AttackResult, confidence: float = 0.95, part: Sequence[Scored] | None = None) -> Epsilon:
    """The bound of one attack on one model, or why there is none; of a `part` of the texts that no coin chose.

    The model (a student with its teacher, its selection and its distillation, too) is the mechanism; the bound is about
    how it treats texts of this split, assigned as they were.
    """
    reason = why_no_bound(result) or ("" if part is None else why_few(part))
    if reason:
        return Epsilon(result.name, math.nan, math.nan, math.nan, confidence, 0, 0, f"no ε: {reason}")
    correct, guesses, texts = _guessed(result, part)
    value = epsilon_lower_bound(correct, guesses, confidence)
    at_delta = epsilon_lower_bound(correct, guesses, confidence, DELTA, texts)
    ceiling = epsilon_lower_bound(guesses, guesses, confidence)
    found = f"{correct} of {guesses} guesses are right"
    said = (
        f"ε ≥ {rounded_down(value)} at δ = 0 ({found}, {confidence:.2%} confidence)"
        if value
        else f"no evidence ({found})"
    )
    if correct == guesses:
        said += "; saturated: so many guesses cannot show more"
    return Epsilon(result.name, value, at_delta, ceiling, confidence, correct, guesses, said + _if_reference(result))


def rounded_down(bound: float) -> str:
    """A bound in words, never above what is proven; with more digits where two would say 0."""
    digits = 2 if bound >= 0.01 else 5
    return f"{math.floor(10**digits * bound) / 10**digits:.{digits}f}"


def _if_reference(result: AttackResult) -> str:
    models = {view.model for view in ATTACKS[result.attack].views}
    return f"; {IF_REFERENCE}" if "reference" in models else ""


def _guessed(result: AttackResult, part: Sequence[Scored] | None) -> Guessed:
    after = result.metadata.get("coins_after")
    if after is None:
        return Guessed(*balanced_coins.right_guesses(result, GUESSES))
    return guessed(result.items if part is None else part, after)


def why_no_bound(result: AttackResult) -> str:
    """Why the theorem says nothing of this task; "" where it applies."""
    known = ATTACKS.get(result.attack)
    knows_labels = None if known is None else known.knows_labels
    return why_not(result.items, result.metadata, result.split, result.attack, knows_labels)
