"""Privacy at equal utility: the frontier of vanilla students, and the arms beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from markupsafe import Markup

from midistill_tasks.compare.frontier.places import Place, places
from midistill_tasks.compare.wording import DEFENCES
from midistill_tasks.metrics.estimate import Interval
from midistill_tasks.report.findings import Findings
from midistill_tasks.report.page import NO_LEGEND, Section
from midistill_tasks.report.sections import section
from midistill_tasks.report.svg import (
    WIDTH,
    Canvas,
    Frame,
    Points,
    colour,
    half_width,
    linear,
    model_legend,
    nice_ticks,
)
from midistill_tasks.results.table import Table, shown

TEXT = (
    "A weaker model always leaks less. What everybody can do without an intervention is to stop the vanilla student "
    "early, or to train it on fewer texts: an arm is worth its name where it leaks less than both at its own held-out "
    "perplexity. Each seed is held against its own seed's vanilla students, on a line between the two around it; "
    "out of their range there is no comparison."
)
CAPTION = (
    "Lines: the vanilla student stopped early (strong) and on fewer texts (thin), with 95 % bands; small dots: each "
    "way of training it less, hollow where one with less training still has a lower perplexity. Crosses: the arms, "
    "95 % either way. Means over seeds; all models share the texts, so the table's paired reductions are firmer than "
    "bands and crosses look."
)
AGAINST_NOTE = (
    "Reduction: leak of the strongest attack on the vanilla student of the arm's perplexity minus that on the arm, so "
    "above 0 is better; against the defence that leaks less there. 95 % interval for other texts, the choice among the "
    "attacks, the way the frontier may bend between two students and, from three seeds on, other seeds. The word holds "
    "among all answers of the page (Holm); p is this comparison's alone."
)
PLACES_NOTE = (
    "Leak of the strongest attack [95 %]; perplexity a byte (or word) of held-out texts [95 % over documents]. On "
    "the frontier: of a lower perplexity than all students of the same row of trainings that had less of it."
)
HEIGHT = 360
"""Of the chart, px."""
ALL = "whole training"
COLUMNS = (
    "arm",
    "seeds",
    "against",
    "reduction of the leak",
    "than a vanilla student of its perplexity",
    "p",
    "perplexity",
)


@section(after="overview")
def frontier(findings: Findings) -> Section | None:
    """A row an arm, a chart, and a row a student of the frontier; None where the study has none."""
    if findings.group.frontier is None:
        return None
    placed = places(findings.group, findings.split)
    rows = tuple(
        (each.arm, each.seeds, DEFENCES.get(each.defence, "–"), each.reduction, each.word, each.p, each.perplexity)
        for each in findings.against
    )
    against = findings.of_split(Table("equal-perplexity", "Each arm at its own perplexity", COLUMNS, rows))
    drawn = [place for place in placed if math.isfinite(place.leak.value)]
    positions = {entry.name: position for position, entry in findings.entries}
    named = [(position, name) for position, name in findings.named if name in {place.name for place in drawn}]
    return Section(
        f"Privacy at equal utility: {findings.split}",
        text=(TEXT,),
        charts=((CAPTION, frontier_chart(drawn, findings.group.frontier.arm, positions)),) if len(drawn) > 1 else (),
        legend=model_legend(named) if len(drawn) > 1 else NO_LEGEND,
        tables=((against, AGAINST_NOTE),) if rows else (),
        folded=((findings.of_split(_places(placed)), PLACES_NOTE),) if placed else (),
    )


def _places(placed: Sequence[Place]) -> Table:
    columns = ("student", "defence", "seeds", "attack", "leak |AUROC − 0.5|", "perplexity", "on the frontier")
    rows = tuple(
        (
            place.name,
            DEFENCES.get(place.defence, ALL),
            place.seeds,
            place.attack,
            place.leak,
            _perplexity(place),
            "yes" if place.on_line else "no",
        )
        for place in placed
    )
    return Table("frontier", "Vanilla students with less training, and the arms", columns, rows)


def _perplexity(place: Place) -> Interval:
    half = half_width(place.utility)
    return Interval(*(math.exp(place.utility.value + shift) for shift in (0, -half, half)))


def frontier_chart(placed: Sequence[Place], vanilla: str, positions: Mapping[str, int]) -> Markup:
    """Leak against held-out perplexity (on a logarithmic axis, on which the frontier's lines are straight).

    Args:
        placed: the students, at least one.
        vanilla: the arm that the frontier is of.
        positions: of the arms in the page's list.
    """
    canvas = Canvas(WIDTH, HEIGHT, "Leak against held-out perplexity: the frontier of vanilla students, and the arms")
    low, high, top = _range(placed)
    frame = frame_of(placed)
    frame.y_axis(canvas, nice_ticks(0, top, 5), "Leak of the strongest attack, |AUROC − 0.5|")
    ticks = [(math.log(value), words) for value, words in nice_ticks(math.exp(low), math.exp(high), 8) if value > 0]
    frame.x_axis(canvas, ticks, "held-out perplexity (lower = a better model)")
    css = colour(positions.get(vanilla, 0))
    whole = [place for place in placed if place.name == vanilla and not place.defence]
    for defence, line in (("stopped", f"curve {css}"), ("fewer", "front")):
        of_defence = [place for place in placed if place.defence == defence]
        on_line = [place for place in (*of_defence, *whole) if place.on_line]
        canvas.area(_band(frame, on_line), f"band {css}")
        canvas.line([_at(frame, place) for place in on_line], line)
        for place in of_defence:
            canvas.dot(*_at(frame, place), 2.5, f"dot {css}" if place.on_line else f"whisker {css}", _tip(place))
    for place in placed:
        if not place.defence:
            _cross(canvas, frame, place, colour(positions.get(place.name, 0)))
    return canvas.render()


def frame_of(placed: Sequence[Place]) -> Frame:
    """The plotting area of `frontier_chart`: held-out log-perplexity and leak → px."""
    low, high, top = _range(placed)
    return Frame(58, 34, WIDTH - 16, 306, linear(low, high, 58, WIDTH - 16), linear(0, top, 306, 34))


def _range(placed: Sequence[Place]) -> tuple[float, float, float]:
    """The least and the largest log-perplexity, and the largest leak, with a margin."""
    ends = [end for place in placed for end in _ends(place)]
    margin = 0.05 * (max(ends) - min(ends)) or 0.05
    return min(ends) - margin, max(ends) + margin, max(0.05, *(_limits(place)[1] for place in placed)) * 1.08


def _cross(canvas: Canvas, frame: Frame, place: Place, css: str) -> None:
    x, y = _at(frame, place)
    canvas.line([(frame.x(end), y) for end in _ends(place)], f"whisker thin {css}")
    canvas.line([(x, frame.y(end)) for end in _limits(place)], f"whisker thin {css}")
    canvas.dot(x, y, 4, f"dot {css}", _tip(place))


def _band(frame: Frame, line: Sequence[Place]) -> Points:
    lower, upper = ([(frame.x(place.utility.value), frame.y(_limits(place)[k])) for place in line] for k in (0, 1))
    return [*upper, *reversed(lower)]


def _at(frame: Frame, place: Place) -> tuple[float, float]:
    return frame.x(place.utility.value), frame.y(place.leak.value)


def _ends(place: Place) -> tuple[float, float]:
    half = half_width(place.utility)
    return place.utility.value - half, place.utility.value + half


def _limits(place: Place) -> tuple[float, float]:
    value, lower, upper = place.leak
    return (value, value) if math.isnan(lower) else (lower, upper)


def _tip(place: Place) -> str:
    return f"{place.name}: leak {shown(place.leak)}, perplexity {shown(_perplexity(place))}"
