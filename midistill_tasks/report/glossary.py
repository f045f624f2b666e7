"""The words of the page, a line each, for those who do not know them: folded where they first stand."""

from __future__ import annotations

import math

from midistill_tasks.attacks import ATTACKS
from midistill_tasks.report.findings import Findings

WORDS = (
    ("member, non-member", "a text that the model was trained on, and one of the same kind that it was not"),
    (
        "attack",
        "a score of each text, from what the model says of it alone; higher = more likely a member. Whoever holds the "
        "model can compute it",
    ),
    (
        "AUROC",
        "the chance that a random member scores above a random non-member: 0.5 is a coin, 1 always. 0.3 leaks as much "
        "as 0.7: an attacker turns the sign",
    ),
    (
        "TPR at 1 % FPR",
        "true positive rate at a low false positive rate: the share of members that are found while at most one in a "
        "hundred non-members is accused wrongly. What an accuser needs who must not be wrong",
    ),
    ("leak", "|AUROC − 0.5| of the strongest attack"),
    ("balanced accuracy", "share of right answers, the mean of both sides; 0.5 is guessing"),
)
BLIND = (
    "blind baseline",
    "a classifier that sees the words of the texts and never the model. What it reaches is no memory of the model's, "
    "but how the two sets of texts differ",
)


def glossary(findings: Findings) -> tuple[tuple[str, str], ...]:
    """Word and meaning: the figures, then the attacks that ran."""
    blind = () if math.isnan(findings.blind.value) else (BLIND,)
    attacks = tuple(
        (name, f"{ATTACKS[name].title} ({ATTACKS[name].source})") for name in findings.attacks if name in ATTACKS
    )
    return (*WORDS, *blind, *attacks)
