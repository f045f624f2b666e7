"""How well each attack works: AUROC of every model under every attack, and all figures as a table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from midistill_tasks.compare.seeds import over_seeds
from midistill_tasks.metrics.estimate import Estimate, Interval
from midistill_tasks.metrics.roc import TPR_BOUNDS, chance_tpr
from midistill_tasks.report import tables
from midistill_tasks.report.findings import Findings, area, interval
from midistill_tasks.report.glossary import glossary
from midistill_tasks.report.page import NO_LEGEND, Section
from midistill_tasks.report.sections import section
from midistill_tasks.report.svg import WIDTH, Canvas, Frame, colour, half_width, linear, model_legend, nice_ticks
from midistill_tasks.results.roles import Entry
from midistill_tasks.results.run import FIGURES, AttackResult
from midistill_tasks.results.table import Cell, Table, shown

HEADINGS = {
    "auroc": "AUROC",
    "tpr_at_1pct_fpr": "TPR at 1 % FPR",
    "tpr_at_0.1pct_fpr": "TPR at 0.1 % FPR",
    "balanced_acc": "balanced accuracy",
    "member_acc": "member accuracy",
    "nonmember_acc": "non-member accuracy",
}
FIRST = ("auroc", "tpr_at_1pct_fpr", "balanced_acc")
"""The figures that a reader needs first."""

CAPTION = (
    "Dot: AUROC; bar: 95 % interval, over texts and, for an arm of several seeds, over seeds (small marks: its "
    "single students). Lavender: the blind baseline with its interval; what lies inside may be no more than "
    "a difference between the two sets of texts."
)
PAIRED_NOTE = (
    "DeLong's paired test over the same texts, two-sided; Holm's p allows for the number of attacks on a student."
)


@dataclass(frozen=True)
class Dot:
    """A model's AUROC under one attack."""

    model: str
    position: int
    auroc: Interval
    singles: tuple[float, ...] = ()
    """AUROC of each student of an arm, where there are several."""


@section(after=None)
def overview(findings: Findings) -> Section:
    """One chart, and each model under its strongest attack; every other figure is folded away."""
    note = _note(findings)
    words = [("blindkey", "blind baseline: words alone, no model")] if not math.isnan(findings.blind.value) else []
    folded = [(_every_attack(findings), note)]
    if findings.comparisons:
        folded.append((findings.of_split(tables.attacks(findings.comparisons)), PAIRED_NOTE))
    dots = _dots(findings)
    drawn = sum(len(of_attack) for _, of_attack in dots) > 1  # a lone dot is no figure
    return Section(
        heading=f"How well each attack works: {findings.split}",
        text=(
            f"The labels are valid for {findings.first.metadata['valid_for']}.",
            *_pseudo(findings),
            *([] if drawn else _alone(findings, dots)),
        ),
        charts=((CAPTION, auroc_chart(dots, findings.blind)),) if drawn else (),
        legend=model_legend(findings.named, words) if drawn else NO_LEGEND,
        tables=((_strongest(findings), note),),
        folded=tuple(folded),
        glossary=glossary(findings),
    )


def _pseudo(findings: Findings) -> list[str]:
    """What the scores are of, where that is no likelihood of a causal model."""
    kind = findings.first.metadata.get("likelihood")
    return [f"All scores are of a {kind}, and not to be compared with those of causal models."] if kind else []


def _alone(findings: Findings, dots: Sequence[tuple[str, Sequence[Dot]]]) -> list[str]:
    """The one AUROC there is, beside the blind baseline's."""
    blind = "" if math.isnan(findings.blind.value) else f"; of the blind baseline: {shown(interval(findings.blind))}"
    return [f"AUROC of {attack} on {dot.model}: {shown(dot.auroc)}{blind}." for attack, of in dots for dot in of]


def _every_attack(findings: Findings) -> Table:
    """Every model under every attack, with the blind baseline beside it."""
    rows = [
        _row(findings, attack, entry, results, FIGURES)
        for attack in findings.attacks
        for _, entry in findings.entries
        if (results := entry.results(findings.split, attack))
    ]
    return findings.of_split(
        Table("figures", f"Every attack on {findings.split}", _columns(FIGURES), tuple(rows)),
    )


def _strongest(findings: Findings) -> Table:
    """Each model under the attack that is strongest on it."""
    rows = []
    for _, entry in findings.entries:
        attack = findings.strongest_on(entry)
        rows.append(_row(findings, attack, entry, entry.results(findings.split, attack), FIRST))
    title = "Each model under its strongest attack"
    return findings.of_split(Table("strongest", title, _columns(FIRST), tuple(rows)))


def _columns(figures: Sequence[str]) -> tuple[str, ...]:
    return ("model", "attack", "seeds", *(HEADINGS[name] for name in figures), "blind baseline AUROC", "warning")


def _row(
    findings: Findings, attack: str, entry: Entry, results: Sequence[AttackResult], figures: Sequence[str]
) -> tuple[Cell, ...]:
    warning = "⚠ blind wins" if findings.blind_wins(area(results)) else ""
    measured = (over_seeds(results, name) for name in figures)
    return (entry.name, attack, len(results), *measured, interval(findings.blind), warning)


def _note(findings: Findings) -> str:
    """How to read the tables."""
    labels = findings.first.labels
    most = max(int(np.isnan(result.scores).sum()) for result in findings.results)
    unscored = f" Up to {most} of these texts have no score under an attack and do not count there." if most else ""
    return (
        "Value [95 % interval]: over texts, from three seeds on over seeds, too, around their mean. AUROC 0.5 is no "
        "leak, and 0.3 leaks as much as 0.7. Accuracies by a threshold chosen on the "
        "other half of the texts. A rate needs 1/FPR non-members, else it is –, and five times as many for an "
        f"interval; {_chance(findings)}. "
        f"{labels.sum()} members, {(~labels).sum()} non-members.{unscored}{_turned(findings)}"
    )


def _turned(findings: Findings) -> str:
    """Of attacks whose members score lower, which a TPR of nothing would hide."""
    names = [
        name
        for name in findings.attacks
        for _, entry in findings.entries
        if (results := entry.results(findings.split, name)) and over_seeds(results, "auroc").upper < 0.5
    ]
    if not names:
        return ""
    attacks = ", ".join(dict.fromkeys(names))
    return (
        f" TPRs and ROC curves are of the scores as they are: where members score lower ({attacks}), an attacker turns"
        " the sign, and these say little."
    )


def _chance(findings: Findings) -> str:
    """What the rates are for scores that say nothing."""
    others = int((~findings.first.labels).sum())
    levels = [(bound, chance_tpr(others, bound)) for bound in TPR_BOUNDS.values()]
    said = [f"{level:.2%} at an FPR of {bound:.1%}" for bound, level in levels if not math.isnan(level)]
    return f"chance alone gives {' and '.join(said)}" if said else "here there are too few"


def _dots(findings: Findings) -> list[tuple[str, list[Dot]]]:
    return [
        (
            attack,
            [
                _dot(position, entry.name, results)
                for position, entry in findings.entries
                if (results := entry.results(findings.split, attack))
            ],
        )
        for attack in findings.attacks
    ]


def _dot(position: int, name: str, results: Sequence[AttackResult]) -> Dot:
    singles = tuple(result.measured["auroc"].value for result in results) if len(results) > 1 else ()
    return Dot(name, position, over_seeds(results, "auroc"), singles)


def auroc_chart(attacks: Sequence[tuple[str, Sequence[Dot]]], blind: Estimate) -> Markup:
    """AUROC of every model under every attack with 95 % intervals, and the blind baseline as a band behind them."""
    rows = sum(len(dots) for _, dots in attacks)
    height = 34 + 11 * rows + 16 * len(attacks) + 46
    canvas = Canvas(WIDTH, height, "AUROC of each model under each attack, with 95 % intervals")
    ends = [end for _, dots in attacks for dot in dots for end in (*_limits(dot.auroc), *dot.singles)]
    low = min(0.45, math.floor(20 * min(ends)) / 20)
    high = max(0.55, min(1.0, math.ceil(20 * max(ends)) / 20))
    frame = Frame(78, 20, WIDTH - 16, height - 46, linear(low, high, 78, WIDTH - 16), linear(0, 1, height - 46, 20))
    if not math.isnan(blind.value):
        _blind_band(canvas, frame, blind, (low, high))
    frame.x_axis(canvas, nice_ticks(low, high, 6), "AUROC (0.5 = no leak), 95 % interval")
    canvas.line([(frame.x(0.5), frame.top), (frame.x(0.5), frame.bottom)], "chance")
    y = frame.top + 10.0
    for attack, dots in attacks:
        canvas.text(frame.left - 10, y + 11 * (len(dots) - 1) / 2 + 4, attack, "label", "end")
        for dot in dots:
            _draw_dot(canvas, frame, dot, y)
            y += 11
        y += 16
    return canvas.render()


def _limits(value: Interval) -> tuple[float, float]:
    """Both ends; the value itself where there are none."""
    lower, upper = (value.value if math.isnan(end) else end for end in (value.lower, value.upper))
    return lower, upper


def _blind_band(canvas: Canvas, frame: Frame, blind: Estimate, limits: tuple[float, float]) -> None:
    half = half_width(blind)
    left, right = (frame.x(min(max(end, limits[0]), limits[1])) for end in (blind.value - half, blind.value + half))
    canvas.area([(left, frame.top), (right, frame.top), (right, frame.bottom), (left, frame.bottom)], "blind")
    if limits[0] <= blind.value <= limits[1]:
        canvas.line([(frame.x(blind.value), frame.top), (frame.x(blind.value), frame.bottom)], "blindline")


def _draw_dot(canvas: Canvas, frame: Frame, dot: Dot, y: float) -> None:
    css = colour(dot.position)
    left, right = (frame.x(end) for end in _limits(dot.auroc))
    canvas.line([(left, y), (right, y)], f"whisker {css}")
    for single in dot.singles:
        canvas.add('<line x1="{0}" x2="{0}" y1="{1}" y2="{2}" class="single {3}"/>', frame.x(single), y - 3, y + 3, css)
    tip = f"{dot.model}: {shown(dot.auroc)}"
    canvas.dot(frame.x(dot.auroc.value), y, 3.5, f"dot {css}", tip)
