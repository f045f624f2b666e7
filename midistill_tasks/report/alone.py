"""What can be said of one model without a teacher beside it."""

from __future__ import annotations

from midistill_tasks.compare.verdict import beats_words, leaks, strongest_area
from midistill_tasks.metrics.estimate import Interval
from midistill_tasks.report.findings import Findings
from midistill_tasks.results.roles import Entry


def sentence(findings: Findings, entry: Entry) -> tuple[str, str]:
    """A word (leaks, no leak found, undecided) and a sentence with its figures and its uncertainty.

    Of an arm of several students it speaks of each, and the word is that of the most.
    """
    found = [strongest_area([run.on(findings.split)]) for run in entry.runs]
    words = [_word(findings, area) for _, area in found]
    word = max(dict.fromkeys(words), key=words.count)
    attack, area = found[0]
    counted = f" ({words.count(word)} of {len(words)} students; the first:" if len(words) > 1 else " ("
    figures = (
        f"the strongest attack is {attack}{counted} AUROC {area.value:.3f}, 95 % interval {area.lower:.3f} to "
        f"{area.upper:.3f} for other texts and the choice among {len(entry.runs[0].on(findings.split))} attacks)"
    ).replace("( ", "(")
    return word, f"{_ANSWERS[word].format(entry.name, findings.blind.value)}: {figures}."


_ANSWERS = {
    "leaks": "Members of {} can be told from non-members",
    "no leak found": "These attacks do not tell members of {} from non-members beyond chance",
    "undecided": (
        "Undecided for {}: a classifier that sees only words, and no model, tells members from non-members (AUROC "
        "{:.3f}), and no attack does so better beyond the errors, so this split cannot say what the model remembers"
    ),
}


def _word(findings: Findings, area: Interval) -> str:
    if not beats_words(area, findings.blind):
        return "undecided"
    return "leaks" if leaks(area, findings.blind) else "no leak found"
