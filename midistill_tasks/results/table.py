"""A table of figures, for people (Markdown) and for programs (CSV)."""

from __future__ import annotations

import csv
import io
import math
import re
import unicodedata
from dataclasses import dataclass
from itertools import chain

from midistill_tasks.metrics.estimate import Estimate, Interval

_ENTITIES = {
    "\\": "&#92;",
    "<": "&lt;",
    "](": "]&#40;",
    "*": "&#42;",
    "`": "&#96;",
    "~": "&#126;",
    "://": "&#58;//",
    "www.": "www&#46;",
}
"""What begins something in Markdown → how it is written to mean itself (a cell defines no link: ``[a][b]`` is text)."""

Cell = str | int | float | Estimate | Interval


@dataclass(frozen=True)
class Table:
    """A table whose cells are of one type a column.

    Attributes:
        name: of its CSV file, see `file`.
        title: one line above it.
        columns: their names.
        rows: a cell a column; an Estimate is a value with its standard error, an Interval a value with its limits.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    @property
    def file(self) -> str:
        """Of its CSV: the name, which may hold that of a split out of somebody else's results, in no other folder."""
        return re.sub(r"[/\\:\x00-\x1f]", "_", self.name) + ".csv"

    def markdown(self) -> str:
        """Title and table; "–" stands for NaN."""
        cells = [list(map(_in_a_cell, line)) for line in (self.columns, *(map(shown, row) for row in self.rows))]
        widths = [max(3, *map(len, column)) for column in zip(*cells, strict=True)]  # even columns, for terminals
        lines = [cells[0], ["-" * width for width in widths], *cells[1:]]
        padded = ([cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines)
        body = "\n".join(f"| {' | '.join(line)} |" for line in padded)
        return f"**{markdown_safe(self.title)}**\n\n{body}\n"

    def csv(self) -> str:
        """One line a row; an Estimate takes the columns x, x_stderr, an Interval x, x_lower, x_upper; NaN is empty."""
        kinds = self.rows[0] if self.rows else ()
        names = (
            [_names(key_of(name), cell) for name, cell in zip(self.columns, kinds, strict=True)]
            if kinds
            else [tuple(map(key_of, self.columns))]
        )
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(map(_plain, chain.from_iterable(names)))
        writer.writerows([_plain(value) for cell in row for value in _parts(cell)] for row in self.rows)
        return out.getvalue()


KEYS = {
    "AUROC": "auroc",
    "TPR at 1 % FPR": "tpr_at_1pct_fpr",
    "TPR at 0.1 % FPR": "tpr_at_0.1pct_fpr",
    "balanced accuracy": "balanced_acc",
    "member accuracy": "member_acc",
    "non-member accuracy": "nonmember_acc",
    "blind baseline AUROC": "blind_auroc",
    "blind AUROC": "blind_auroc",
    "teacher AUROC": "teacher_auroc",
    "student AUROC": "student_auroc",
}
"""A column's name for people → for programs, as the harness names its metrics."""


def key_of(column: str) -> str:
    """The column's name in files that programs read."""
    return KEYS.get(column, column)


def _in_a_cell(text: str) -> str:
    return markdown_safe(text).replace("|", "\\|")


def markdown_safe(text: str) -> str:
    """A line that is read as it stands: what a text or a name says becomes no link, image, HTML, code or emphasis.

    >>> markdown_safe("![i](http://x/y.png) <b> *so* [0.1, 0.2]")
    '![i]&#40;http&#58;//x/y.png) &lt;b> &#42;so&#42; [0.1, 0.2]'
    """
    line = re.sub(r"&(?=#?\w+;)", "&amp;", " ".join(text.split()))
    for mark, entity in _ENTITIES.items():
        line = line.replace(mark, entity)
    return re.sub(r"(?<![^\W_])_|_(?![^\W_])", "&#95;", line)  # within a word it is no emphasis


def shown(cell: Cell) -> str:
    """A figure with its error or limits, as people read it; "–" for NaN."""
    if isinstance(cell, Interval) and not math.isnan(cell.lower):
        return f"{_digits(cell.value)} [{_digits(cell.lower)}, {_digits(cell.upper)}]"
    if isinstance(cell, Estimate) and not math.isnan(cell.stderr):
        return f"{_digits(cell.value)} ± {_digits(cell.stderr)}"
    value = cell[0] if isinstance(cell, (Estimate, Interval)) else cell
    return _digits(value) if isinstance(value, float) else str(value)


def _digits(value: float) -> str:
    if math.isnan(value):
        return "–"
    if 1e9 <= abs(value) < math.inf:
        return f"{value:.3g}"  # the perplexity of a model that has learnt nothing may have 300 digits
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3f}" if abs(value) >= 0.0005 or value == 0 else f"{value:.1e}"


def _parts(cell: Cell) -> tuple[str | int | float, ...]:
    return tuple(cell) if isinstance(cell, (Estimate, Interval)) else (cell,)


def _plain(value: str | int | float) -> str | int | float:
    if isinstance(value, str):
        text = re.sub(r"\r\n?", "\n", value)  # a bare \r ends a row for many readers, and `csv` does not quote it
        # Spreadsheets run what begins so; some skip blanks before it, some read a full-width mark as the plain one.
        first = unicodedata.normalize("NFKC", text.lstrip()[:1])
        return f"'{text}" if first.startswith(("=", "+", "-", "@")) else text
    return "" if math.isnan(value) else value


def _names(name: str, cell: Cell) -> list[str]:
    ends = {Estimate: ("", "_stderr"), Interval: ("", "_lower", "_upper")}.get(type(cell), ("",))
    return [name + end for end in ends]
