"""The report's charts, from figures to SVG. Colours are CSS classes: s0 the teacher, s1 … s7 arms, s8 all others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from midistill_tasks.compare.curves import Curve
from midistill_tasks.metrics.estimate import Z95, Estimate, Interval
from midistill_tasks.metrics.scored import FloatArray
from midistill_tasks.report.svg import Canvas, Frame, linear, log_ticks, logarithmic, nice_ticks, percent_decades
from midistill_tasks.results.table import shown

WIDTH = 480
NARROW = 320
WIDE = 5
"""Largest over smallest value from which on the utility's axis is logarithmic."""
COLOURS = 8
"""Models that have a colour of their own, the teacher included."""


def colour(position: int) -> str:
    """The CSS class of the model at a position of the page's list."""
    return f"s{min(position, COLOURS)}"


@dataclass(frozen=True)
class Dot:
    """A model's AUROC under one attack."""

    model: str
    position: int
    auroc: Interval
    singles: tuple[float, ...] = ()
    """AUROC of each student of an arm, where there are several."""


@dataclass(frozen=True)
class Trade:
    """A model in the plane of privacy and utility."""

    model: str
    position: int
    leak: Estimate
    utility: Estimate
    on_front: bool


def roc_figure(curves: Sequence[tuple[int, Curve]], attack: str) -> Markup:
    """ROC curves on logarithmic axes, each with its position in the page's list of models."""
    canvas = Canvas(WIDTH, 400, f"ROC curves of the attack {attack}, logarithmic axes")
    floor = min(0.1, 10.0 ** math.floor(math.log10(min(float(curve.fpr[0]) for _, curve in curves)) + 1e-9))
    frame = Frame(58, 34, WIDTH - 16, 346, logarithmic(floor, 1, 58, WIDTH - 16), logarithmic(floor, 1, 346, 34))
    frame.y_axis(canvas, percent_decades(floor), "Members found (true positive rate)")
    frame.x_axis(canvas, percent_decades(floor), "Non-members accused (false positive rate)")
    canvas.line([(frame.x(floor), frame.y(floor)), (frame.x(1), frame.y(1))], "chance")
    for position, curve in curves:
        x = [frame.x(float(rate)) for rate in curve.fpr]
        upper = [frame.y(float(rate)) for rate in curve.upper]
        lower = [frame.y(float(rate)) for rate in curve.lower]
        outline = [*zip(x, upper, strict=True), *reversed([*zip(x, lower, strict=True)])]
        canvas.area(outline, f"band {colour(position)}")
    for position, curve in curves:
        points = [(frame.x(float(a)), frame.y(float(b))) for a, b in zip(curve.fpr, curve.tpr, strict=True)]
        canvas.line(points, f"curve {colour(position)}")
    return canvas.render()


def distribution_figure(members: FloatArray, nonmembers: FloatArray, model: str, limits: tuple[float, float]) -> Markup:
    """Histograms of the scores of members (filled) and non-members (line), as shares of each class.

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
    frame.y_axis(canvas, [(v, f"{100 * v:.3g} %") for v, _ in nice_ticks(0, top, 4)], model)
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


def matrix_figure(arm: str, matrices: Sequence[tuple[str, FloatArray]]) -> Markup:
    """Teacher × student, one square a matrix: title and counts (both, teacher only, student only, neither)."""
    canvas = Canvas(NARROW, 168, f"Teacher against {arm}: " + ", ".join(title for title, _ in matrices))
    canvas.text(0, 14, arm, "label")
    cell, step = 37, 98
    for row, words in enumerate(("yes", "no")):
        canvas.text(40, 62 + row * cell + cell / 2 - 12, words, "tick", "end")
    canvas.text(0, 86, "teacher", "tick")
    for number, (title, counts) in enumerate(matrices):
        left = 46 + number * step
        canvas.text(left, 36, title, "tick")
        for position, share in enumerate(counts / max(float(counts.sum()), 1.0)):
            x, y = left + position % 2 * cell, 44 + position // 2 * cell
            box = '<rect x="{}" y="{}" width="{}" height="{}" class="cell" style="fill-opacity:{}"/>'
            canvas.add(box, x, y, cell - 2, cell - 2, float(share))
            canvas.text(x + cell / 2 - 1, y + cell / 2 + 4, f"{100 * share:.0f} %", "tick", "middle")
        for column, words in enumerate(("yes", "no")):
            canvas.text(left + column * cell + cell / 2 - 1, 44 + 2 * cell + 14, words, "tick", "middle")
    canvas.text(46 + step + cell, 44 + 2 * cell + 32, "student", "tick", "middle")
    return canvas.render()


def auroc_figure(attacks: Sequence[tuple[str, Sequence[Dot]]], blind: Estimate) -> Markup:
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
            _interval(canvas, frame, dot, y)
            y += 11
        y += 16
    return canvas.render()


def _limits(value: Interval) -> tuple[float, float]:
    return tuple(value.value if math.isnan(end) else end for end in value[1:])  # type: ignore[return-value]


def _blind_band(canvas: Canvas, frame: Frame, blind: Estimate, limits: tuple[float, float]) -> None:
    half = _error(blind)
    left, right = (frame.x(min(max(end, limits[0]), limits[1])) for end in (blind.value - half, blind.value + half))
    canvas.area([(left, frame.top), (right, frame.top), (right, frame.bottom), (left, frame.bottom)], "blind")
    if limits[0] <= blind.value <= limits[1]:
        canvas.line([(frame.x(blind.value), frame.top), (frame.x(blind.value), frame.bottom)], "blindline")


def _interval(canvas: Canvas, frame: Frame, dot: Dot, y: float) -> None:
    css = colour(dot.position)
    left, right = (frame.x(end) for end in _limits(dot.auroc))
    canvas.line([(left, y), (right, y)], f"whisker {css}")
    for single in dot.singles:
        canvas.add('<line x1="{0}" x2="{0}" y1="{1}" y2="{2}" class="single {3}"/>', frame.x(single), y - 3, y + 3, css)
    tip = f"{dot.model}: {shown(dot.auroc)}"
    canvas.dot(frame.x(dot.auroc.value), y, 3.5, f"dot {css}", tip)


def trade_figure(trades: Sequence[Trade], utility: str) -> Markup:
    """Leak of the strongest attack against the figure that `utility` names, 95 % either way, and the Pareto front."""
    canvas = Canvas(WIDTH, 360, f"Leak against {utility} of every model")
    values = [trade.utility.value for trade in trades]
    wide = min(values) > 0 and max(values) > WIDE * min(values)
    low, high = (0.9 * min(values), 1.1 * max(values)) if wide else _span([trade.utility for trade in trades])
    x_scale, x_ticks = (logarithmic, log_ticks(low, high)) if wide else (linear, nice_ticks(low, high, 5))
    y_high = max(0.05, max(trade.leak.value + _error(trade.leak) for trade in trades)) * 1.08
    frame = Frame(58, 34, WIDTH - 16, 306, x_scale(low, high, 58, WIDTH - 16), linear(0, y_high, 306, 34))
    frame.y_axis(canvas, nice_ticks(0, y_high, 5), "Leak of the strongest attack, |AUROC − 0.5|")
    frame.x_axis(canvas, x_ticks, utility)
    front = sorted((frame.x(t.utility.value), frame.y(t.leak.value)) for t in trades if t.on_front)
    canvas.line(front, "front")
    for trade in trades:
        _cross(canvas, frame, trade)
    return canvas.render()


def _cross(canvas: Canvas, frame: Frame, trade: Trade) -> None:
    css, x, y = colour(trade.position), frame.x(trade.utility.value), frame.y(trade.leak.value)
    dx, dy = _error(trade.utility), _error(trade.leak)
    ends = frame.x(trade.utility.value - dx), frame.x(trade.utility.value + dx)
    canvas.line([(ends[0], y), (ends[1], y)], f"whisker thin {css}")
    bottom = frame.y(max(0.0, trade.leak.value - dy))
    canvas.line([(x, bottom), (x, frame.y(trade.leak.value + dy))], f"whisker thin {css}")
    tip = f"{trade.model}: leak {trade.leak.value:.3f}, {trade.utility.value:.4g}"
    canvas.dot(x, y, 4, f"dot {css}{' onfront' if trade.on_front else ''}", tip)


def _error(estimate: Estimate) -> float:
    return 0.0 if math.isnan(estimate.stderr) else Z95 * estimate.stderr


def _span(estimates: Sequence[Estimate]) -> tuple[float, float]:
    """The range of the values with their errors and a margin."""
    low = min(one.value - _error(one) for one in estimates)
    high = max(one.value + _error(one) for one in estimates)
    margin = 0.08 * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin
