"""The findings' figure: a study's frontier as the page draws it, with names beside the arms, as a file of its own."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from lookups import Data, number
from markupsafe import escape

from midistill_tasks.compare.frontier.places import Place
from midistill_tasks.compare.wording import DEFENCES
from midistill_tasks.metrics.estimate import Z95, Estimate, Interval
from midistill_tasks.report.sections.frontier import HEIGHT, frame_of, frontier_chart
from midistill_tasks.report.svg import WIDTH, colour

LETTER, LINE = 6.3, 12.0
"""Width of a letter and height of a line of the names, px."""

PLACES = (
    *((8, 4, "start"), (-8, 4, "end"), (8, -8, "start"), (8, 16, "start"), (-8, -8, "end"), (-8, 16, "end")),
    *((sign * 14, dy, anchor) for dy in (-22, 28, -36, 42, -50, 56) for sign, anchor in ((1, "start"), (-1, "end"))),
)
"""Where a name may stand, seen from its arm, from the best on: (right, down, anchor)."""

STYLE = """
svg{font:12px ui-sans-serif,system-ui,-apple-system,"Segoe UI","Helvetica Neue",Arial,sans-serif;background:#fff}
text{fill:#1d1f24}.tick{fill:#5d636e}.name{fill:currentColor;font-size:10.5px;stroke:#fff;stroke-width:3px;paint-order:stroke}
.grid{stroke:#d9dbd6;fill:none}.axis{stroke:#5d636e;fill:none}.front{fill:none;stroke:#5d636e;stroke-width:1.4}
.curve{fill:none;stroke:currentColor;stroke-width:2;stroke-linejoin:round}.band{fill:currentColor;opacity:.13}
.whisker{stroke:currentColor;stroke-width:1.6;fill:none}.thin{stroke-width:1;opacity:.55}
.dot{fill:currentColor;stroke:#fff}.lead{stroke:#8b909a;stroke-width:.8}
.s0{color:#1d1f24}.s1{color:#2563b8}.s2{color:#c4531a}.s3{color:#14806b}.s4{color:#8a4fae}.s5{color:#a8801c}
.s6{color:#b5345f}.s7{color:#4e7d1e}.s8{color:#8b909a}
"""

Box = tuple[float, float, float, float]


def frontier_figure(data: Data, study: str) -> str:
    """An SVG file; figures are those of frontier.csv."""
    vanilla = data.fact(study, "vanilla")
    positions = {name: position for position, name in enumerate(data.models(study))}
    placed = _placed(data, study)
    chart = str(frontier_chart(placed, vanilla, positions))
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{1.5 * WIDTH:g}" height="{1.5 * HEIGHT:g}" '
    names = "\n".join(_names(placed, positions))
    inner = re.sub(r'^<svg | style="[^"]*"(?=>)', "", chart, count=2)
    opened, _, rest = inner.partition(">")
    body = rest.removesuffix("</svg>").replace("><", ">\n<")
    paper = '<rect width="100%" height="100%" fill="#fff"/>'
    return f"{head}{opened}>\n<style>{STYLE}</style>\n{paper}\n{body}\n{names}\n</svg>\n"


def _placed(data: Data, study: str) -> list[Place]:
    kinds = {words: name for name, words in DEFENCES.items()}
    return [
        Place(
            name=row["student"],
            defence=kinds.get(row["defence"], ""),
            seeds=int(row["seeds"]),
            attack=row["attack"],
            leak=Interval(*(number(row[f"leak{end}"]) for end in ("", "_lower", "_upper"))),
            utility=_log(*(number(row[f"perplexity{end}"]) for end in ("", "_lower", "_upper"))),
            on_line=row["on_frontier"] == "yes",
        )
        for row in data.rows(study, "frontier")
        if row["leak"]
    ]


def _log(value: float, lower: float, upper: float) -> Estimate:
    """Of a perplexity with 95 % limits, the log-perplexity with its standard error."""
    return Estimate(math.log(value), (math.log(upper) - math.log(lower)) / 2 / Z95)


def _names(placed: Sequence[Place], positions: Mapping[str, int]) -> list[str]:
    """A name beside each arm, none over another, with a line to its arm where it had to go far."""
    frame = frame_of(placed)
    arms = [place for place in placed if not place.defence]
    points = {place.name: (frame.x(place.utility.value), frame.y(place.leak.value)) for place in arms}
    taken: list[Box] = [(x - 4, y - 4, x + 4, y + 4) for x, y in points.values()]
    made = []
    for name, (x, y) in points.items():
        tried = [(right, down, anchor, _box(x + right, y + down, anchor, name)) for right, down, anchor in PLACES]
        inside = [
            each for each in tried if frame.left < each[3][0] and each[3][2] < WIDTH - 2 and each[3][3] < frame.bottom
        ]
        right, down, anchor, box = min(
            inside or tried, key=lambda each: sum(_overlap(each[3], other) for other in taken)
        )
        taken.append(box)
        if abs(down) > 2 * LINE - 4:
            made.append(f'<path class="lead" d="M{x:.1f} {y:.1f}L{x + right:.1f} {y + down - 4:.1f}"/>')
        css = f"name {colour(positions.get(name, 0))}"
        at = f'x="{x + right:.1f}" y="{y + down:.1f}" text-anchor="{anchor}"'
        made.append(f'<text class="{css}" {at}>{escape(name)}</text>')
    return made


def _box(x: float, y: float, anchor: str, name: str) -> Box:
    width = LETTER * len(name)
    left = x if anchor == "start" else x - width
    return (left, y - LINE + 2, left + width, y + 2)


def _overlap(one: Box, other: Box) -> float:
    """Area that two boxes share, px²."""
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    return max(0.0, wide) * max(0.0, high)
