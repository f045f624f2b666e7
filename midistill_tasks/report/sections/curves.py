"""The strongest attack more closely: ROC curves and score distributions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from midistill_tasks.attacks import ATTACKS
from midistill_tasks.compare.curves import Curve, roc_curve
from midistill_tasks.metrics.scored import FloatArray
from midistill_tasks.report.findings import Findings
from midistill_tasks.report.page import Section
from midistill_tasks.report.sections import section
from midistill_tasks.report.svg import (
    COLOURS,
    NARROW,
    WIDTH,
    Canvas,
    Frame,
    colour,
    linear,
    logarithmic,
    model_legend,
    nice_ticks,
    percent_decades,
)
from midistill_tasks.results.run import AttackResult

SMALL_NOTE = (
    "Scores of each model, as shares of the members and of the non-members. The more the two coincide, the "
    "less the model gives away. Texts beyond the axis are in the outermost bars."
)


@section(after="trade")
def curves(findings: Findings) -> Section:
    """Of the attack that is strongest on the first model."""
    attack = findings.strongest
    coloured = [(position, entry) for position, entry in findings.entries if position < COLOURS]
    present = [
        (position, entry.name, results)
        for position, entry in coloured
        if (results := entry.results(findings.split, attack))
    ]
    limits = _limits([result.scores for _, _, results in present for result in results])
    title = ATTACKS[attack].title if attack in ATTACKS else attack
    left_out = len(findings.entries) - len(coloured)
    caption = (
        f"ROC of {attack} ({title}), the strongest attack on {findings.entries[0][1].name}. Bands: 95 % bootstrap over "
        "texts, point by point; several seeds: their mean. Dashed: guessing."
        + (f" {left_out} more models are in the tables only." if left_out else "")
    )
    drawn = [(position, roc_curve(name, results)) for position, name, results in present]
    sides = [("members-key", "members"), ("nonmembers-key", "non-members")]
    return Section(
        heading=f"The strongest attack more closely: {attack} on {findings.split}",
        charts=((caption, roc_chart(drawn, attack)),),
        legend=model_legend([(position, entry.name) for position, entry in coloured], sides),
        small=tuple(_first_histogram(name, results, limits) for _, name, results in present),
        small_note=SMALL_NOTE,
    )


def _first_histogram(name: str, results: Sequence[AttackResult], limits: tuple[float, float]) -> Markup:
    """Of a model, or of the first student of an arm."""
    first = results[0]
    members, nonmembers = (first.scores[side & ~np.isnan(first.scores)] for side in (first.labels, ~first.labels))
    return histogram(members, nonmembers, f"{name}, its first seed" if len(results) > 1 else name, limits)


def _limits(scores: Sequence[FloatArray]) -> tuple[float, float]:
    """From the lowest 0.5 % quantile of the models to the highest 99.5 %, so that outliers do not squeeze the rest."""
    finite = [values[np.isfinite(values)] for values in scores]
    ends = [np.quantile(values, [0.005, 0.995]) for values in finite if len(values)] or [np.zeros(2)]
    low, high = min(end[0] for end in ends), max(end[1] for end in ends)
    return (float(low), float(high)) if high > low else (float(low) - 0.5, float(high) + 0.5)


def roc_chart(drawn: Sequence[tuple[int, Curve]], attack: str) -> Markup:
    """ROC curves on logarithmic axes, each with its position in the page's list of models."""
    canvas = Canvas(WIDTH, 400, f"ROC curves of the attack {attack}, logarithmic axes")
    floor = min(0.1, 10.0 ** math.floor(math.log10(min(float(curve.fpr[0]) for _, curve in drawn)) + 1e-9))
    frame = Frame(58, 34, WIDTH - 16, 346, logarithmic(floor, 1, 58, WIDTH - 16), logarithmic(floor, 1, 346, 34))
    frame.y_axis(canvas, percent_decades(floor), "Members found (true positive rate)")
    frame.x_axis(canvas, percent_decades(floor), "Non-members accused (false positive rate)")
    canvas.line([(frame.x(floor), frame.y(floor)), (frame.x(1), frame.y(1))], "chance")
    for position, curve in drawn:
        x = [frame.x(float(rate)) for rate in curve.fpr]
        upper = [frame.y(float(rate)) for rate in curve.upper]
        lower = [frame.y(float(rate)) for rate in curve.lower]
        outline = [*zip(x, upper, strict=True), *reversed([*zip(x, lower, strict=True)])]
        canvas.area(outline, f"band {colour(position)}")
    for position, curve in drawn:
        points = [(frame.x(float(a)), frame.y(float(b))) for a, b in zip(curve.fpr, curve.tpr, strict=True)]
        canvas.line(points, f"curve {colour(position)}")
    return canvas.render()


def histogram(members: FloatArray, nonmembers: FloatArray, model: str, limits: tuple[float, float]) -> Markup:
    """The scores of members (filled) and non-members (line), as shares of each class.

    Args:
        members, nonmembers: scores, [n] each; what lies outside the limits is counted in the outermost bins.
        model: for the title.
        limits: of the axis, the same for all models of a figure.
    """
    canvas = Canvas(NARROW, 215, f"Scores of members and non-members under {model}")
    edges = np.linspace(*limits, 31)
    sides = [np.histogram(np.clip(side, *limits), edges)[0] / max(len(side), 1) for side in (members, nonmembers)]
    top = float(max(side.max() for side in sides)) * 1.05 or 1.0
    frame = Frame(40, 34, NARROW - 8, 165, linear(*limits, 40, NARROW - 8), linear(0, top, 165, 34))
    frame.y_axis(canvas, [(value, f"{100 * value:.3g} %") for value, _ in nice_ticks(0, top, 4)], model)
    frame.x_axis(canvas, nice_ticks(*limits, 4), "score (higher = more like a member)")
    outlines = [_steps(edges, side, frame) for side in sides]
    canvas.area([*outlines[0], (frame.right, frame.bottom), (frame.left, frame.bottom)], "members")
    canvas.line(outlines[1], "nonmembers")
    return canvas.render()


def _steps(edges: FloatArray, heights: FloatArray, frame: Frame) -> list[tuple[float, float]]:
    points = []
    for left, right, height in zip(edges[:-1], edges[1:], heights, strict=True):
        points += [(frame.x(float(left)), frame.y(float(height))), (frame.x(float(right)), frame.y(float(height)))]
    return points
