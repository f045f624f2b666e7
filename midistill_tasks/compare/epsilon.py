"""A lower bound on ε from one training run: Steinke, Nasr and Jagielski, "Privacy Auditing with One (1) Training Run",
NeurIPS 2023 (arXiv 2305.08846), at δ = 0.

**The bound.** If each text is put into the training data by a fair coin of its own and training is ε-DP (adding or
removing one text), then of r guesses made from the model alone, the number of right ones is stochastically at most
Binomial(r, e^ε/(1+e^ε)). With p the one-sided Clopper–Pearson lower limit of their accuracy, ε ≥ ln(p/(1−p)). The
numbers of guesses are fixed beforehand (`GUESSES`): the highest scores are called members, the lowest non-members.

**Why not on the scored texts as they are.** After the coins were tossed, non-members were taken out as shots, and the
larger side was cut to the size of the smaller. On what is left the labels are no longer independent coins: their sum is
fixed, and a text that is missing tells of its label. The theorem allows the guesser to abstain, but not to abstain by
the label. So the guesses are made on a set E of N − 5√N texts drawn uniformly out of all N that had a coin:
a draw that knows no label, whence the labels in E are fair coins, also given all others, and the theorem holds on E.
E is drawn in two steps, which need only what was scored: how many members and shots a uniform draw contains
(hypergeometric), then which ones. A side was cut by a draw of its own, so a uniform draw among the scored texts of that
side is a uniform draw among all of that side. Texts of E that have no score because they were taken out (shots; and
the rest of a side, should E want more of it than was kept) count as *wrong* guesses: wherever they ranked, the number
of right guesses could not have been smaller. E leaves out 5√N texts to make that rare: the two sides differ by √N.
Which side was cut the files do not say; both are tried, and the smaller bound is given.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

from midistill_tasks.attacks import ATTACKS
from midistill_tasks.metrics.scored import BoolArray, FloatArray
from midistill_tasks.results.run import AttackResult, Run

GUESSES = 0.1
"""Share of E that is called a member, and share that is called a non-member; for the rest the guesser abstains."""


@dataclass(frozen=True)
class Epsilon:
    """What one attack shows of a model's ε.

    Attributes:
        task: the attack's task.
        value: ε is at least this, with `confidence`; 0 = no evidence; NaN where the bound does not apply.
        confidence: that the bound is not above the true ε.
        correct, guesses: right guesses and all guesses; 0 and 0 where the bound does not apply.
        reason: a sentence: what the figure says, or why there is none.
    """

    task: str
    value: float
    confidence: float
    correct: int
    guesses: int
    reason: str


def epsilon_lower_bound(correct: int, guesses: int, confidence: float = 0.95) -> float:
    """ln(p/(1−p)) with p the one-sided Clopper–Pearson lower limit of the accuracy; 0 where p ≤ ½: no evidence.

    It solves P[Binomial(guesses, e^ε/(1+e^ε)) ≥ correct] = 1 − confidence for ε.
    """
    p = float(binomtest(correct, guesses, alternative="greater").proportion_ci(confidence, method="exact").low)
    return max(0.0, math.log(p / (1 - p))) if p > 0 else 0.0


def epsilons(run: Run, confidence: float = 0.95) -> list[Epsilon]:
    """One a task of the run, each at 1 − (1 − confidence)/A for the A tasks of its split that the bound applies to.

    So the largest of them holds with `confidence`, too.
    """
    apply = Counter(result.split for result in run.tasks.values() if not _not_applicable(result))
    return [epsilon(result, 1 - (1 - confidence) / max(1, apply[result.split])) for result in run.tasks.values()]


def arm_epsilons(runs: Sequence[Run], confidence: float = 0.95) -> list[list[Epsilon]]:
    """For each run of an arm `epsilons`, so that the largest over attacks and seeds holds with `confidence`."""
    return [epsilons(run, 1 - (1 - confidence) / len(runs)) for run in runs]


def epsilon(result: AttackResult, confidence: float = 0.95) -> Epsilon:
    """The bound of one attack on one model, or why there is none.

    The model (a student with its teacher, its selection and its distillation, too) is the mechanism; the bound is about
    how it treats texts of this split, assigned as they were.
    """
    reason = _not_applicable(result)
    if reason:
        return Epsilon(result.name, math.nan, confidence, 0, 0, f"no ε: {reason}")
    counts: Mapping[str, int] = result.metadata["counts"]
    tossed = counts["members"] + counts["nonmembers"] + counts["unbalanced"] + counts["shots"]
    each_side = int(GUESSES * _size(tossed))
    # The coins fell for as many members as were scored, or for as many more as were cut from the larger side.
    correct = min(
        _right_guesses(result, tossed, members, each_side)
        for members in (counts["members"], counts["members"] + counts["unbalanced"])
    )
    value = epsilon_lower_bound(correct, 2 * each_side, confidence)
    found = f"{correct} of {2 * each_side} guesses are right"
    said = f"ε ≥ {value:.2f} at δ = 0 ({found}, {confidence:.1%} confidence)" if value else f"no evidence ({found})"
    return Epsilon(result.name, value, confidence, correct, 2 * each_side, said)


def _not_applicable(result: AttackResult) -> str:
    """Why the theorem says nothing of this task; "" where it applies."""
    counts, options = result.metadata["counts"], result.metadata["options"]
    known = ATTACKS.get(result.attack)
    if not result.metadata["independent_coins"]:
        return f"the members of {result.split} were not chosen by independent fair coins, so the bound does not apply"
    if known is None:
        return f"the attack {result.attack} is not one that midistill knows, so its scores may know labels"
    if known.knows_labels:
        return "the attack puts non-members in front of each text, so its scores know labels beside the model"
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


def _size(tossed: int) -> int:
    return int(tossed - 5 * math.sqrt(tossed))


def _right_guesses(result: AttackResult, tossed: int, members: int, each_side: int) -> int:
    """Right guesses among the `each_side` highest and lowest scores of E, if the coins fell for so many members."""
    labels, scores, missing = _draw(result, tossed, members)
    kept = ~np.isnan(scores)  # no score by the text or the model, whatever the label: the guesser abstains
    labels, scores = labels[kept], scores[kept]
    rising = labels[np.argsort(scores, kind="stable")]
    lowest = rising[: max(0, each_side - missing[1])]
    highest = rising[::-1][: max(0, each_side - missing[0])]
    return int((~lowest).sum() + highest.sum())


def _draw(result: AttackResult, tossed: int, members: int) -> tuple[BoolArray, FloatArray, tuple[int, int]]:
    """E without its unscored texts: labels and scores by id, and how many non-members and members lack."""
    rng = np.random.default_rng(0)  # the guesser's own randomness, the same whatever the labels and the model
    order = rng.permutation(len(result.items))
    shots, size = result.metadata["counts"]["shots"], _size(tossed)
    wanted_members = int(rng.hypergeometric(members, tossed - members, size))
    wanted_others = size - wanted_members
    shots_in = int(rng.hypergeometric(shots, tossed - members - shots, wanted_others)) if shots else 0
    chosen_members = order[result.labels[order]][:wanted_members]
    chosen_others = order[~result.labels[order]][: wanted_others - shots_in]
    chosen = np.sort(
        np.concatenate([chosen_members, chosen_others])
    )  # by id, a hash of the text: so ties fall at random
    missing = (wanted_others - len(chosen_others), wanted_members - len(chosen_members))
    return result.labels[chosen], result.scores[chosen], missing
