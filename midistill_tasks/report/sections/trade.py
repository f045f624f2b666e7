"""Privacy and utility together: chart and table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from midistill_tasks.compare.pareto import points, shared_perplexity
from midistill_tasks.metrics.estimate import Estimate
from midistill_tasks.report.findings import Findings
from midistill_tasks.report.page import NO_LEGEND, Section
from midistill_tasks.report.sections import section
from midistill_tasks.report.svg import (
    COLOURS,
    WIDTH,
    Canvas,
    Frame,
    colour,
    half_width,
    linear,
    log_ticks,
    logarithmic,
    model_legend,
    nice_ticks,
)
from midistill_tasks.results.table import Cell, Table, shown
from midistill_tasks.results.utility import with_error

WIDE = 5
"""Largest over smallest value from which on the utility's axis is logarithmic."""

CAPTION = (
    "Bars: 95 % over texts (all models saw the same ones, so differences between models are firmer than the bars). "
    "Line: the Pareto front. A weaker model leaks less: compare models of one utility."
)
NOTE = (
    "Leak: of the strongest attack, ± standard error. A model on the front has no rival that is at least as good in "
    "both and better in one, as measured; the errors say how firm that is. A perplexity's error is over documents: "
    "those of the attacks where it is of their texts, else what one sample of its task holds. No single score is "
    "given: it would hide one behind the other."
)


@dataclass(frozen=True)
class Trade:
    """A model in the plane of privacy and utility."""

    model: str
    position: int
    leak: Estimate
    utility: Estimate
    on_front: bool


@section(after="controls")
def trade(findings: Findings) -> Section:
    """Leak against utility; a sentence where the runs share no perplexity."""
    heading = f"Privacy and utility together: {findings.split}"
    runs = findings.runs
    name = findings.settings.utility or shared_perplexity(runs)
    if name is None:
        remedy = f"evaluate each on a held-out text as well, for example with the task heldout_{findings.split}"
        return Section(heading, (f"Not shown: these runs share no perplexity; {remedy}.",))
    measured = iter(points(runs, findings.split, name))
    rows: list[tuple[Cell, ...]] = []
    trades = []
    for position, entry in findings.entries:
        for run, point in zip(entry.runs, measured, strict=False):
            cost = with_error(run, point.utility).estimate
            if math.isfinite(point.leak.value) and math.isfinite(cost.value):
                trades.append(Trade(entry.name, position, point.leak, cost, point.on_front))
            rows.append((entry.name, run.model, point.leak, point.attack, cost, "yes" if point.on_front else "no"))
    columns = ("model", "run", "leak |AUROC − 0.5|", "under", name, "on the front")
    table = findings.of_split(Table("privacy-utility", f"Leak and {name}", columns, tuple(rows)))
    better = "higher" if runs[0].utility[name].higher_is_better else "lower"
    label = f"{name.replace('/', ': ').replace('_', ' ')} ({better} = a better model)"
    noted = ((table, NOTE),)
    few = len(rows) <= COLOURS
    drawn = len(trades) > 1  # a lone dot is no figure
    return Section(
        heading,
        text=tuple(_alone(trade, label) for trade in trades) if not drawn else (),
        charts=((CAPTION, trade_chart(trades, label)),) if drawn else (),
        legend=model_legend(findings.named) if drawn else NO_LEGEND,
        tables=noted if few else (),
        folded=() if few else noted,
    )


def _alone(trade: Trade, utility: str) -> str:
    """The figures of the only model that has both, where a chart has nothing to compare."""
    return (
        f"{trade.model}: leak of the strongest attack, |AUROC − 0.5|, {shown(trade.leak)}; {utility} "
        f"{shown(trade.utility)}. One model has no trade to show: evaluate another one beside it."
    )


def trade_chart(trades: Sequence[Trade], utility: str) -> Markup:
    """Leak of the strongest attack against the figure that `utility` names, 95 % either way, and the Pareto front."""
    canvas = Canvas(WIDTH, 360, f"Leak against {utility} of every model")
    values = [trade.utility.value for trade in trades]
    wide = min(values) > 0 and max(values) > WIDE * min(values)
    low, high = (0.9 * min(values), 1.1 * max(values)) if wide else _span([trade.utility for trade in trades])
    x_scale, x_ticks = (logarithmic, log_ticks(low, high)) if wide else (linear, nice_ticks(low, high, 5))
    y_high = max(0.05, max(trade.leak.value + half_width(trade.leak) for trade in trades)) * 1.08
    frame = Frame(58, 34, WIDTH - 16, 306, x_scale(low, high, 58, WIDTH - 16), linear(0, y_high, 306, 34))
    frame.y_axis(canvas, nice_ticks(0, y_high, 5), "Leak of the strongest attack, |AUROC − 0.5|")
    frame.x_axis(canvas, x_ticks, utility)
    front = sorted((frame.x(trade.utility.value), frame.y(trade.leak.value)) for trade in trades if trade.on_front)
    canvas.line(front, "front")
    for model in trades:
        _cross(canvas, frame, model)
    return canvas.render()


def _cross(canvas: Canvas, frame: Frame, model: Trade) -> None:
    css, x, y = colour(model.position), frame.x(model.utility.value), frame.y(model.leak.value)
    dx, dy = half_width(model.utility), half_width(model.leak)
    ends = frame.x(model.utility.value - dx), frame.x(model.utility.value + dx)
    canvas.line([(ends[0], y), (ends[1], y)], f"whisker thin {css}")
    bottom = frame.y(max(0.0, model.leak.value - dy))
    canvas.line([(x, bottom), (x, frame.y(model.leak.value + dy))], f"whisker thin {css}")
    tip = f"{model.model}: leak {model.leak.value:.3f}, {model.utility.value:.4g}"
    canvas.dot(x, y, 4, f"dot {css}{' onfront' if model.on_front else ''}", tip)


def _span(estimates: Sequence[Estimate]) -> tuple[float, float]:
    """The range of the values with their errors and a margin."""
    low = min(estimate.value - half_width(estimate) for estimate in estimates)
    high = max(estimate.value + half_width(estimate) for estimate in estimates)
    margin = 0.08 * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin
