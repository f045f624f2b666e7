"""Verdicts as sentences. What holds is decided in `verdict`; here it is said, with its figures and its uncertainty."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

from midistill_tasks.compare.caught import Caught
from midistill_tasks.metrics.estimate import Estimate, Interval
from midistill_tasks.results.table import shown

NEGLIGIBLE = 0.02
"""A reduction of the leak, in AUROC, that is too small to call a student safer for."""

FEWEST = 10
"""Documents that a class must have for any answer."""

STRONGEST = "The strongest attack on "
"""How the figures behind an answer begin."""

Word = Literal["safer", "leaks less, still leaks", "not safer", "undecided"]
FrontierWord = Literal[
    "leaks less",
    "no better than stopping early",
    "no better than training on fewer texts",
    "undecided",
    "no comparison",
]
AloneWord = Literal["leaks", "no leak found", "undecided", "too few texts to say", "nothing was measured"]


class Strongest(NamedTuple):
    """The strongest attack on a model, or on the students of an arm.

    Attributes:
        name: of the model or arm.
        attack: its id.
        area: its AUROC (the mean over students).
        beats_words: whether it does better than the blind baseline beyond the errors, or coins chose the members.
        leaks: whether it also tells members from non-members beyond chance.
        documents: of the smaller class.
        constant: whether each attack gives all texts the same score.
        blind: AUROC of the bag-of-words baseline.
        caught: what an accuser reaches by it.
    """

    name: str
    attack: str
    area: Interval
    beats_words: bool
    leaks: bool
    documents: int
    constant: bool
    blind: Estimate
    caught: Caught

    @property
    def leak(self) -> float:
        """|AUROC − 0.5|"""
        return abs(self.area.value - 0.5)


class Alone(NamedTuple):
    """The answer on a model without a teacher beside it.

    Attributes:
        word: the badge.
        opening: the sentence's beginning, which answers the question.
        sentence: all of it.
        p: the smallest 1 − confidence at which the word still holds; 1 where it claims nothing.
    """

    word: AloneWord
    opening: str
    sentence: str
    p: float


class Compared(NamedTuple):
    """The figures that a verdict on students beside their teacher is made of.

    Attributes:
        attacks: how many there were to choose the strongest from.
        seeds: students of the arm.
    """

    word: Word
    teacher: Strongest
    student: Strongest
    reduction: Interval
    attacks: int
    seeds: int


def scope(seeds: int) -> str:
    """What the word speaks of."""
    if seeds == 1:
        return "this one model, on texts like these"
    if seeds == 2:
        return "these two models, on texts like these"
    return f"students trained this way ({seeds} seeds), on texts like these"


def compared(figures: Compared) -> str:
    """Whether the student leaks less than its teacher: three sentences."""
    return f"{_answer(figures)}. {_figures(figures)} {_reach(figures.seeds)}"


def _answer(figures: Compared) -> str:
    word, teacher, student, reduction, *_ = figures
    if teacher.constant or student.constant:
        name = (teacher if teacher.constant else student).name
        return f"Undecided: all scores of {name} are equal, so nothing was measured"
    if min(teacher.documents, student.documents) < FEWEST:
        return f"Undecided: {min(teacher.documents, student.documents)} texts of a class are too few to say"
    if not (teacher.beats_words or student.beats_words):
        return _cannot_say(teacher.blind, student.name)
    if word == "safer":
        return f"Safer: {student.name} leaks less than {teacher.name}"
    if word == "leaks less, still leaks":
        still = f"its members can still be told from non-members: {student.caught.sentence}"
        return f"Leaks less, still leaks: {student.name} leaks less than {teacher.name}, but {still}"
    if word == "undecided":
        settled = f"these figures do not settle whether {student.name} leaks less than {teacher.name}"
        return f"Undecided: {_no_leak(teacher)}{settled}"
    if reduction.upper < 0:
        return f"Not safer: {student.name} leaks more than {teacher.name}"
    small = f"if {student.name} leaks less than {teacher.name}, then by less than {NEGLIGIBLE} in AUROC"
    return f"Not safer: {_no_leak(teacher)}{small}"


def _no_leak(teacher: Strongest) -> str:
    if teacher.leaks:
        return ""
    what = "beyond chance" if teacher.beats_words else "better than words alone"
    return f"no attack tells members of {teacher.name} from non-members {what}, and "


def _figures(figures: Compared) -> str:
    _, teacher, student, reduction, attacks, seeds = figures
    covers = "other texts" if seeds < 3 else "other texts and other seeds"
    chosen = "" if attacks == 1 else f" and the choice among {attacks} attacks"
    mean = "" if seeds == 1 else "mean "
    return (
        f"{STRONGEST}{teacher.name} is {teacher.attack} (AUROC {teacher.area.value:.3f}), on "
        f"{student.name} {student.attack} ({mean}AUROC {student.area.value:.3f}): the leak |AUROC − 0.5| goes "
        f"from {teacher.leak:.3f} to {student.leak:.3f}, a reduction of {reduction.value:.3f} "
        f"(95 % interval {reduction.lower:.3f} to {reduction.upper:.3f}, for {covers}{chosen})."
    )


def _reach(seeds: int) -> str:
    if seeds == 1:
        return (
            "This speaks of this one model and of texts like these; "
            "whether others trained in the same way are safer is undecided, as one seed proves nothing."
        )
    if seeds == 2:
        return "This speaks of these two models and of texts like these: two seeds say too little of others."
    return f"This speaks of students trained this way from this teacher ({seeds} seeds) and texts like these."


def _cannot_say(blind: Estimate, name: str) -> str:
    """Of texts that words alone tell apart as well as the attacks on the model or arm `name` do."""
    why = (
        "there is no blind baseline to hold the attacks against, and coins did not choose the members"
        if math.isnan(blind.value)
        else "no attack does better, beyond the errors, than a classifier that sees only words and no model (AUROC "
        f"{blind.value:.3f})"
    )
    return f"Undecided: {why}, so this split cannot say what {name} remembers"


def _beside_chance(caught: Caught) -> str:
    several = f"the best of {caught.attacks} attacks that say nothing finds"
    best = several if caught.attacks > 1 else "scores that say nothing find"
    most = f"{best} up to {caught.at_most_by_chance}"
    if caught.found > caught.at_most_by_chance:
        return f"though, where {most}: look at the lowest false positive rates"
    return f"where {most}"


def opening(word: AloneWord, found: Strongest) -> str:
    """The answer to: can it be told which texts this model was trained on?"""
    caught = found.caught
    if word == "leaks":
        return f"Yes: {caught.sentence} ({found.attack}), where scores that say nothing find {caught.by_chance:.0f}"
    if word == "no leak found":
        beyond = f"these attacks do not tell members of {found.name} from non-members beyond chance"
        return f"No leak found: {beyond}; {caught.sentence}, {_beside_chance(caught)}"
    if word == "undecided":
        return _cannot_say(found.blind, found.name)
    if word == "too few texts to say":
        return f"Too few texts of {found.name} were judged to say anything ({found.documents} of the smaller class)"
    return f"Nothing was measured of {found.name}: each attack gives all texts the same score"


def alone(word: AloneWord, found: Strongest, seeds: int, attacks: int) -> str:
    """What can be said of a model, or of the students of an arm, without a teacher beside it.

    Args:
        word: the answer.
        found: the strongest attack.
        seeds: students of the arm; 1 for a model.
        attacks: how many there were to choose the strongest from.
    """
    mean = f"mean over {seeds} students, " if seeds > 1 else ""
    chosen = "" if attacks == 1 else f" and the choice among {attacks} attacks"
    return (
        f"{opening(word, found)}. {STRONGEST}{found.name} is {found.attack} ({mean}AUROC "
        f"{found.area.value:.3f}, 95 % interval {found.area.lower:.3f} to {found.area.upper:.3f} for other texts"
        f"{chosen})."
    )


def not_among(p: float, adjusted: float, answers: int, word: str) -> str:
    """What is said first of an answer that does not hold among all answers of a page."""
    return (
        f"Undecided among the {answers} answers of this page: alone it would be '{word}' (p {p:.3f}), but with so "
        f"many one such is to be expected by chance (Holm's p {adjusted:.2f})."
    )


def without_answer(sentence: str) -> str:
    """The figures of `compared` or `alone`, without the answer that stands before them."""
    return f"{STRONGEST}{sentence.partition(f'. {STRONGEST}')[2]}"


DEFENCES = {"stopped": "stopping early", "fewer": "training on fewer texts"}
"""What everybody can do without an intervention."""

NO_SEED = "its seeds and those of the vanilla arm have no frontier in common"
NO_HELDOUT = "not all of these students have a finite perplexity on the same held-out texts"


def against_frontier(arm: str, word: FrontierWord, reduction: Interval) -> str:
    """Whether an arm leaks less than a vanilla student of its perplexity: one sentence."""
    figures = shown(reduction)
    if word == "leaks less":
        return f"{arm} leaks less than a vanilla student of its perplexity: {figures}."
    if word.startswith("no better"):
        more = "leaks more than a vanilla student of its perplexity, so it " if reduction.upper < 0 else ""
        return f"{arm} {more}is {word}: {figures}."
    return f"Undecided whether {arm} leaks less than a vanilla student of its perplexity: {figures}."


def no_comparison(arm: str, why: str) -> str:
    """The same where there is nothing to compare with."""
    return f"No comparison of {arm} with a vanilla student of its perplexity: {why}."


def out_of_range(weaker: int, better: int, seeds: int) -> str:
    """Why: so many of the seeds are weaker, so many better than every student of the frontier."""
    said = [
        f"no vanilla student is as {quality}" + ("" if count == seeds else f" as in {count} of {seeds} seeds")
        for quality, count in (("weak", weaker), ("good", better))
        if count
    ]
    return " and ".join(said) or "no defence has all of its seeds"
