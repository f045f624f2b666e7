"""What stands at the head of the page: title, answers, the paragraph that counts them, and warnings."""

from __future__ import annotations

from collections.abc import Sequence

from midistill_tasks.compare.pairs import Comparison, noted
from midistill_tasks.report.findings import Findings, area, interval
from midistill_tasks.report.page import Statement
from midistill_tasks.results.matching import left_out_notes, option_notes, skip_notes, version_notes
from midistill_tasks.results.roles import Group
from midistill_tasks.results.table import shown


def title(group: Group) -> str:
    """The teacher and how many others, or the models."""
    if group.teacher and group.arms:
        return f"Membership audit: {group.teacher.name} and {_count(len(group.arms), 'other')}"
    return f"Membership audit: {', '.join(entry.name for entry in group.entries[:3])}" + (
        f" and {len(group.entries) - 3} more" if len(group.entries) > 3 else ""
    )


def statements(splits: Sequence[Findings]) -> tuple[Statement, ...]:
    """The answers: of splits with comparisons where there are any, else of each model alone."""
    compared = [findings for findings in splits if findings.comparisons]
    if not compared:
        return _alone(splits)
    return tuple(
        Statement(comparison.arm + _of_split(findings, splits), comparison.verdict.word, _said(comparison, findings))
        for findings in compared
        for comparison in findings.comparisons
    )


def _said(comparison: Comparison, findings: Findings) -> str:
    """First at equal perplexity, where there is a frontier, then beside the teacher."""
    first = [each.sentence for each in findings.against if each.arm == comparison.arm]
    return " ".join([*first, comparison.verdict.sentence])


def _alone(splits: Sequence[Findings]) -> tuple[Statement, ...]:
    """Of each model on each split."""
    return tuple(
        Statement(name + _of_split(findings, splits), one.word, one.sentence, one.opening)
        for findings in splits
        for name, one in findings.alone.items()
    )


def _of_split(findings: Findings, splits: Sequence[Findings]) -> str:
    return f" on {findings.split}" if len(splits) > 1 else ""


def lead(group: Group, splits: Sequence[Findings], answers: Sequence[Statement]) -> str:
    """The first paragraph: the answers counted, on what they rest, and what they do not say."""
    compared = [findings for findings in splits if findings.comparisons]
    texts = "; ".join(
        f"{findings.first.labels.sum()} members and {(~findings.first.labels).sum()} non-members of {findings.split}, "
        f"{_count(len(findings.attacks), 'attack')}"
        for findings in compared or splits
    )
    said = _counted([(answer.about, answer.word) for answer in answers])
    if len(answers) == 1 and answers[0].opening:
        said = answers[0].opening
    if not (group.teacher and group.arms):
        models = "this model was" if len(group.entries) == 1 else "these models were"
        proof = "An attack that finds nothing is no proof of privacy."
        return f"Can it be told which texts {models} trained on? {said}. Measured on {texts}. {proof}"
    controlled = _counted([(against.arm, against.word) for findings in splits for against in findings.controlled])
    against_controls = f" Interventions against their controls: {controlled}." if controlled else ""
    equal = _counted([(each.arm, each.word) for findings in splits for each in findings.against])
    at_equal = f" Against a vanilla student of their own perplexity: {equal}." if equal else ""
    weaker = "" if equal else " A weaker model leaks less: read each answer beside the model's perplexity."
    return (
        "Does a student give away less than its teacher about the texts they were trained on? Of "
        f"{_count(len(answers), 'comparison')} with {group.teacher.name}: {said}. Measured on {texts}, with 95 % "
        f"intervals; the words hold among all answers of this page (Holm). {_reach(group)}"
        f"{at_equal}{against_controls}{weaker}"
    )


def _reach(group: Group) -> str:
    """What the numbers of seeds allow to say."""
    seeds = {len(entry.runs) for entry in group.arms}
    if seeds == {1}:
        return "Each is one seed: whether others trained in the same way are safer is undecided."
    single = [entry.name for entry in group.arms if len(entry.runs) == 1]
    of_one = f"; one seed ({', '.join(single)}) says nothing of others." if single else "."
    return f"Seeds of each: {', '.join(map(str, sorted(seeds)))}{of_one}"


WORDS = (
    *("safer", "leaks less, still leaks", "not safer", "leaks", "no leak found"),
    *("leaks less", "no better than stopping early", "no better than training on fewer texts"),
    "undecided",
    *("too few texts to say", "nothing was measured", "no comparison"),
)


def _counted(answers: Sequence[tuple[str, str]]) -> str:
    """``2 safer (a, b), 1 undecided (c)`` from pairs of name and word, the names only where they are few."""
    parts = []
    for word in WORDS:
        names = [about for about, answer in answers if answer == word]
        listed = f" ({', '.join(names)})" if len(names) <= 8 else ""
        parts += [f"{len(names)} {word}{listed}"] if names else []
    return ", ".join(parts)


def warnings(group: Group, splits: Sequence[Findings]) -> tuple[str, ...]:
    """What a reader must know before any figure."""
    said = [f"Not in this report: {failure}" for failure in group.failed]
    for findings in splits:
        said += _blind_wins(findings)
        if not findings.same_texts:
            said.append(
                f"The models were attacked on different texts of {findings.split}: their figures do not compare. "
                "Evaluate all with the same --limit and --metadata."
            )
        said += noted(findings.comparisons)
        if not findings.comparisons:
            said += [*_without_attacks(findings), *option_notes(findings.runs, findings.split)]
    apart = [findings.split for findings in splits if not findings.comparisons]
    if len(apart) < len(splits):
        said += [f"{split} has figures and no comparison: not all models were attacked on it" for split in apart]
    left_out = dict.fromkeys(split for run in group.runs for split in run.splits if split not in group.splits)
    said += [f"{split} is left out: no model, or not all seeds of one, have figures on it" for split in left_out]
    said += [*version_notes(group.runs), *skip_notes(group.runs)]
    return tuple(warning if warning.endswith(".") else f"{warning}." for warning in dict.fromkeys(said))


def _without_attacks(findings: Findings) -> list[str]:
    """Attacks that not all students of an arm have, or of few texts, so that the answer is made without them."""
    return [
        f"{entry.name}: in its answer {note}"
        for _, entry in findings.entries
        for note in left_out_notes(entry.runs, entry.on(findings.split)[0], findings.split)
    ]


def _blind_wins(findings: Findings) -> list[str]:
    areas = [
        area(results)
        for attack in findings.attacks
        for _, entry in findings.entries
        if (results := entry.results(findings.split, attack))
    ]
    beaten = sum(findings.blind_wins(value) for value in areas)
    if not beaten:
        return []
    return [
        f"The blind baseline wins on {findings.split}: a classifier that sees only words, and no model, reaches "
        f"AUROC {shown(interval(findings.blind))}, at least as good as {beaten} of {len(areas)} results (marked ⚠). "
        f"They measure how the two sets of texts differ."
    ]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
