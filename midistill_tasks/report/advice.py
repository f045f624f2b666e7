"""What to do now: two or three sentences that follow from what was found."""

from __future__ import annotations

from collections.abc import Sequence

from midistill_tasks.attacks import ATTACKS
from midistill_tasks.report.findings import Findings
from midistill_tasks.report.page import Statement

ENOUGH = 500
"""Non-members from which on the rate at 1 % false accusations has an interval."""

LEAKS = (
    "Whoever holds this model can confirm texts that it was trained on: treat the most exposed ones (exposed-….csv) as "
    "disclosed before you release it. Train again without duplicates, for fewer epochs or on texts that may be known, "
    "and audit again with the same command."
)
STILL = (
    "Leaking less than the teacher is no release criterion while members can still be told: judge the student by its "
    "own figures, and beside students of the same perplexity."
)
NONE = "Finding nothing is no proof: an attacker may have a better attack, more of your texts, or another model."
SHIFT = (
    "Words alone tell the two sides apart, so no attack on these texts can say what the model remembers: take the "
    "non-members from the same source and time as the members, at best by a coin for each text before training."
)
FEW = (
    "Judge more texts: a rate at 1 % false accusations needs 100 non-members, and its interval {enough} (here {count})."
)
STRONGER = "Try stronger attacks before you rely on it: {ideas}."


def advice(splits: Sequence[Findings], statements: Sequence[Statement]) -> tuple[str, ...]:
    """For the page's end of answers; the gravest first, at most three."""
    words = {statement.word for statement in statements}
    said = []
    if "leaks" in words:
        said.append(LEAKS)
    if "leaks less, still leaks" in words:
        said.append(STILL)
    if "undecided" in words and any(findings.words_tell for findings in splits):
        said.append(SHIFT)
    if "no leak found" in words:
        said.append(NONE)
    fewest = min(int((~findings.first.labels).sum()) for findings in splits)
    if fewest < ENOUGH:
        said.append(FEW.format(enough=ENOUGH, count=fewest))
    if not words & {"leaks", "leaks less, still leaks"} and (ideas := _stronger(splits)):
        said.append(STRONGER.format(ideas=ideas))
    return tuple(said[:3])


def _stronger(splits: Sequence[Findings]) -> str:
    """What was not tried on these splits."""
    ideas = []
    tried = {attack for findings in splits for attack in findings.attacks}
    if not any(ATTACKS[name].reads_reference for name in tried if name in ATTACKS):
        ideas.append('a reference model that never saw the members ({"mia": {"reference": …}})')
    missing = [name for name, attack in ATTACKS.items() if attack.strong and name not in tried]
    if missing:
        ideas.append(f"mia_strong_{splits[0].split} ({', '.join(missing)})")
    return " and ".join(ideas)
