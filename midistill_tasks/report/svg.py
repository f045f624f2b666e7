"""The few shapes and axes of the report's charts. Every text is escaped.

Colours are the page's CSS classes: s0 the first model of the page (the teacher where there is one), s1 … s7 those after
it, s8 all others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

from midistill_tasks.metrics.estimate import Z95, Estimate

WIDTH = 480
NARROW = 320
"""Of a chart alone in its row, and of one among several, px."""
COLOURS = 8
"""Models that have a colour of their own, the teacher included."""

Scale = Callable[[float], float]
Points = Iterable[tuple[float, float]]


@dataclass
class Canvas:
    """An SVG of fixed coordinates that the page scales to its column.

    Attributes:
        width, height: of the view box, in px at full size.
        title: what a screen reader says of it.
    """

    width: int
    height: int
    title: str
    _parts: list[Markup] = field(default_factory=list)

    def add(self, template: str, *values: object) -> None:
        """One element; values that are not numbers of our own are escaped, numbers are rounded."""
        shown = (round(value, 2) if isinstance(value, float) else value for value in values)
        self._parts.append(Markup(template).format(*shown))  # noqa: S704 (the templates are this module's)

    def line(self, points: Points, css: str) -> None:
        """A line through the points."""
        self.add('<polyline class="{}" points="{}"/>', css, _joined(points))

    def area(self, points: Points, css: str) -> None:
        """A filled outline."""
        self.add('<polygon class="{}" points="{}"/>', css, _joined(points))

    def text(self, x: float, y: float, words: object, css: str = "", anchor: str = "start") -> None:
        """Words at a point; `anchor` start, middle or end."""
        self.add('<text x="{}" y="{}" class="{}" text-anchor="{}">{}</text>', float(x), float(y), css, anchor, words)

    def dot(self, x: float, y: float, radius: float, css: str, tip: str) -> None:
        """A point that says `tip` when it is pointed at."""
        self.add(
            '<circle cx="{}" cy="{}" r="{}" class="{}"><title>{}</title></circle>',
            *(float(x), float(y), float(radius), css, tip),
        )

    def render(self) -> Markup:
        """The element."""
        head = Markup('<svg viewBox="0 0 {0} {1}" role="img" aria-label="{2}" style="max-width:{0}px">')
        return head.format(self.width, self.height, self.title) + Markup("").join(self._parts) + Markup("</svg>")


@dataclass(frozen=True)
class Frame:
    """The plotting area inside a canvas, with what maps values to its coordinates.

    Attributes:
        left, top, right, bottom: its edges, px.
        x, y: value → px.
    """

    left: float
    top: float
    right: float
    bottom: float
    x: Scale
    y: Scale

    def x_axis(self, canvas: Canvas, ticks: Sequence[tuple[float, str]], label: str) -> None:
        """Grid lines, numbers and the axis's name below."""
        for value, words in ticks:
            x = self.x(value)
            canvas.line([(x, self.top), (x, self.bottom)], "grid")
            canvas.text(x, self.bottom + 16, words, "tick", "middle")
        canvas.line([(self.left, self.bottom), (self.right, self.bottom)], "axis")
        canvas.text((self.left + self.right) / 2, self.bottom + 36, label, "label", "middle")

    def y_axis(self, canvas: Canvas, ticks: Sequence[tuple[float, str]], label: str) -> None:
        """Grid lines, numbers and the axis's name above, where it reads without turning the head."""
        for value, words in ticks:
            y = self.y(value)
            canvas.line([(self.left, y), (self.right, y)], "grid")
            canvas.text(self.left - 7, y + 4, words, "tick", "end")
        canvas.text(self.left, self.top - 12, label, "label")


def linear(low: float, high: float, start: float, end: float) -> Scale:
    """Maps low…high to start…end."""
    span = (high - low) or 1.0
    return lambda value: start + (value - low) / span * (end - start)


def logarithmic(low: float, high: float, start: float, end: float) -> Scale:
    """The same in log10; what lies outside is held at the edge (a rate of 0 has no logarithm)."""
    inner = linear(math.log10(low), math.log10(high), start, end)
    return lambda value: inner(math.log10(min(max(value, low), high)))


def nice_ticks(low: float, high: float, count: int = 5) -> list[tuple[float, str]]:
    """Round values within low…high, about `count`, with their shortest labels."""
    raw = (high - low) / max(count, 1)
    if not raw > 0:
        return [(low, f"{low:.4g}")]
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    values = [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]
    digits = max(0, -math.floor(math.log10(step)))
    return [(value, f"{value:.{digits}f}".replace("-", "−")) for value in values]


def log_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """1, 2 and 5 times the powers of ten within low…high, both above 0."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    values = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
    return [(value, f"{value:,.6g}") for value in values if low <= value <= high]


def percent_decades(low: float) -> list[tuple[float, str]]:
    """Powers of ten from `low` to 1 as percentages."""
    decades = range(round(math.log10(low)), 1)
    return [(10.0**power, f"{100 * 10.0**power:.6g} %") for power in decades]


def colour(position: int) -> str:
    """The CSS class of the model at a position of the page's list."""
    return f"s{min(position, COLOURS)}"


def half_width(estimate: Estimate) -> float:
    """How far a 95 % bar reaches to either side; 0 where there is no error."""
    return 0.0 if math.isnan(estimate.stderr) else Z95 * estimate.stderr


def model_legend(models: Sequence[tuple[int, str]], extra: Sequence[tuple[str, str]] = ()) -> Markup:
    """The legend of models, each with its position; those beyond the colours share the last one."""
    named = [(colour(position), name) for position, name in models if position < COLOURS]
    others = len(models) - len(named)
    return legend([*named, *([(colour(COLOURS), f"{others} others")] if others else []), *extra])


def legend(entries: Sequence[tuple[str, str]]) -> Markup:
    """HTML: (css class of the colour, words) in a row that wraps."""
    keys = (Markup('<span class="key {}">{}</span>').format(css, escape(words)) for css, words in entries)
    return Markup('<p class="legend">{}</p>').format(Markup("").join(keys))


def _joined(points: Points) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
