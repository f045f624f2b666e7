"""What the text of the findings may ask of its data: figures as they are written, words of verdicts, tables."""

from __future__ import annotations

import csv
import io
import math
import re
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

EARLIER = "earlier"
"""The folder of figures that were typed over, see its README; each other folder is one of `collect.py`."""

Row = Mapping[str, str]


class MissingFigureError(Exception):
    """The text asks for a figure that the files do not have."""


class Data:
    """The files of one folder of studies, each read once.

    Args:
        folder: docs/findings/data.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._read: dict[Path, list[Row]] = {}

    def studies(self, null_control: str = "no") -> list[str]:
        """Those that were collected, by name: with ``yes`` those in which nobody saw what is judged."""
        names = sorted(path.parent.name for path in self.folder.glob("*/facts.csv"))
        return [name for name in names if self.fact(name, "null_control") == null_control]

    def has(self, study: str, file: str) -> bool:
        """Whether the study has such a file."""
        return (self.folder / study / f"{file}.csv").is_file()

    def rows(self, study: str, file: str, /, **where: str) -> list[Row]:
        """The lines of a file whose columns have the given values; none where the study has no such file."""
        path = self.folder / study / f"{file}.csv"
        if path not in self._read:
            text = path.read_text(encoding="utf-8") if path.is_file() else ""
            self._read[path] = list(csv.DictReader(io.StringIO(text)))
        return [row for row in self._read[path] if all(row[column] == value for column, value in where.items())]

    def row(self, study: str, file: str, /, **where: str) -> Row:
        """The one line of a file whose columns have the given values.

        Raises:
            MissingFigureError: there is none, or there are several.
        """
        found = self.rows(study, file, **where)
        if len(found) != 1:
            asked = ", ".join(f"{column} = {value}" for column, value in where.items())
            raise MissingFigureError(f"{study}/{file}.csv has {len(found)} lines with {asked}: the text needs one")
        return found[0]

    def cell(self, study: str, file: str, row: str, column: str) -> str:
        """As it stands in the file: of the line whose first column is `row`."""
        found = [line for line in self.rows(study, file) if next(iter(line.values())) == row]
        if len(found) != 1 or column not in found[0]:
            raise MissingFigureError(f"{study}/{file}.csv has no one figure in line '{row}', column '{column}'")
        return found[0][column]

    def fact(self, study: str, name: str) -> str:
        """Of a collected study: members, nonmembers, seeds …"""
        return self.cell(study, "facts", name, "value")

    def models(self, study: str) -> list[str]:
        """The teacher, then the others."""
        return [row["model"] for row in self.rows(study, "models")]

    def attacks(self, study: str) -> list[str]:
        """Those that ran, in the page's order."""
        return list(dict.fromkeys(row["attack"] for row in self.rows(study, "figures")))

    def with_shadows(self, study: str) -> list[str]:
        """Those by shadow models, behind the same score without them."""
        found = list(dict.fromkeys(row["attack"] for row in self.rows(study, "shadows") if row["shadows"] != "0"))
        return ["loss", *found]

    def auroc(self, study: str, model: str, attack: str) -> str:
        """With its 95 % interval."""
        return interval(self.row(study, "figures", model=model, attack=attack), "auroc")

    def over_seeds(self, study: str, model: str, attack: str) -> str:
        """Mean AUROC ± standard deviation over the students of an arm; "–" where an attack has none."""
        areas = [number(row["auroc"]) for row in self.rows(study, "runs", model=model, attack=attack)]
        if len(areas) < 2:
            return digits(str(areas[0])) if areas else "–"
        return number_of(str(statistics.mean(areas)), str(statistics.stdev(areas)))

    def tpr(self, study: str, model: str, attack: str) -> str:
        """At 1 % FPR."""
        return percent(self.row(study, "figures", model=model, attack=attack), "tpr_at_1pct_fpr")

    def perplexity(self, study: str, model: str) -> str:
        """Held out, a byte (or word), ± its standard error over texts."""
        row = self.row(study, "models", model=model)
        return number_of(row["perplexity"], row["perplexity_stderr"])

    def strongest(self, study: str, model: str) -> Row:
        """The line of the attack with the largest |AUROC − 0.5| on a model."""
        return self._farthest(study, "figures", model)

    def strongest_shadowed(self, study: str, model: str) -> Row:
        """The same among the attacks with shadow models."""
        return self._farthest(study, "shadows", model, lambda row: row["shadows"] != "0")

    def _farthest(self, study: str, file: str, model: str, taken: Callable[[Row], bool] = bool) -> Row:
        found = [row for row in self.rows(study, file, model=model) if taken(row)]
        if not found:
            raise MissingFigureError(f"{study}/{file}.csv has no attack on {model}")
        return max(found, key=lambda row: abs(number(row["auroc"]) - 0.5))

    def verdict(self, study: str, arm: str, kind: str, of: str | None = None) -> str:
        """Word and reduction of an arm beside its teacher, control or frontier, and what that is; "–" where none is.

        Args:
            study: a collected one; or `EARLIER`, and `of` is the study.
            arm: its name.
            kind: teacher, control or frontier.
            of: see above.
        """
        found = self.rows(study, "verdicts", arm=arm, kind=kind, **({"study": of} if of else {}))
        if not found:
            return "–"
        (row,) = found
        reduction = interval(row, "reduction")
        said = f"**{row['word']}**" + (f", {reduction}" if reduction != "–" else "")
        return said if of or kind == "teacher" or row["against"] == "–" else f"{said} ({row['against']})"

    def words(self, study: str, kind: str, of: str | None = None) -> str:
        """All verdicts of a kind, counted by their words: ``safer: a, b; undecided: c``."""
        ready_made = {row["model"] for row in self.rows(study, "models", trained="no")}
        by_word: dict[str, list[str]] = {}
        for row in self.rows(study, "verdicts", kind=kind, **({"study": of} if of else {})):
            if row["arm"] not in ready_made:
                by_word.setdefault(row["word"], []).append(f"`{row['arm']}`")
        return "; ".join(f"**{word}**: {', '.join(arms)}" for word, arms in by_word.items()) or "no verdict"

    def tally(self, arm: str, kind: str) -> str:
        """How often each word was said of an arm, in all studies but null controls: ``undecided (6 of 7)``.

        A collected study of one seed is another one's first seed again, and is not counted twice.
        """
        words = [
            row["word"]
            for study in (*(study for study in self.studies() if self.fact(study, "seeds") != "1"), EARLIER)
            for row in self.rows(study, "verdicts", arm=arm, kind=kind)
        ]
        counted = [f"**{word}** ({words.count(word)} of {len(words)})" for word in dict.fromkeys(words)]
        return ", ".join(counted) or "no study has it"

    def epsilon(self, study: str, model: str) -> Row | None:
        """The line of the largest bound on ε of a model, of all its seeds and attacks; None where it has none."""
        found = [row for row in self.rows(study, "epsilon") if row["model"].partition(", seed ")[0] == model]
        return max((row for row in found if row["epsilon"]), key=lambda row: number(row["epsilon"]), default=None)


def table(rows: Iterable[Row], code: str = "") -> str:
    """The whole of a file in Markdown, as it stands there.

    Args:
        rows: its lines.
        code: the column in which a word alone is a name that programs take.
    """
    lines = list(rows)

    def cell(name: str, text: str) -> str:
        return f"`{text}`" if name == code and re.fullmatch(r"\w+", text) else text

    return grid(list(lines[0]), [[cell(name, text) for name, text in row.items()] for row in lines])


def grid(columns: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    made = [columns, ["---"] * len(columns), *lines]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in made)


def number(text: str) -> float:
    """NaN where the cell is empty."""
    return float(text) if text else math.nan


def number_of(figure: str, stderr: str = "") -> str:
    """A figure ± its standard error."""
    return f"{digits(figure)} ± {digits(stderr)}" if stderr else digits(figure)


def interval(row: Row, name: str) -> str:
    """A figure with its limits: ``0.518 [0.467, 0.568]``."""
    figure, lower, upper = (digits(row[name + end]) for end in ("", "_lower", "_upper"))
    return figure if lower == "–" else f"{figure} [{lower}, {upper}]"


def percent(row: Row, name: str) -> str:
    """The same of a rate: ``24 % [18, 31]``."""
    value, lower, upper = (100 * number(row[name + end]) for end in ("", "_lower", "_upper"))
    if math.isnan(value):
        return "–"
    return f"{value:.0f} %" + ("" if math.isnan(lower) else f" [{lower:.0f}, {upper:.0f}]")


def digits(figure: str) -> str:
    """Three decimals; "–" for an empty cell."""
    shown = f"{float(figure):.3f}" if figure else "–"
    return "0.000" if shown == "-0.000" else shown.replace("-", "−")


def value(text: str) -> str:
    """Of a figure as it stands, without its error, limits or further figures: ``0.996 ± 0.000`` → ``0.996``."""
    return re.split(r" ±| \[|, | \(", text)[0]


def inside(text: str) -> str:
    """The figure in brackets behind another: ``0.583 ± 0.018 (9.79)`` → ``9.79``."""
    return text.partition("(")[2].rstrip(")")


def globals_of(data: Data) -> dict[str, Any]:
    """What a template may call."""
    asked = (
        "studies",
        "has",
        "rows",
        "row",
        "cell",
        "fact",
        "models",
        "attacks",
        "with_shadows",
        "auroc",
        "over_seeds",
        "tpr",
        "perplexity",
    )
    judged = ("strongest", "strongest_shadowed", "verdict", "words", "tally", "epsilon")
    mine = {"earlier": lambda file, row, column: data.cell(EARLIER, file, row, column)}
    plain = {"table": table, "grid": grid, "interval": interval, "percent": percent, "number_of": number_of}
    return {**{name: getattr(data, name) for name in (*asked, *judged)}, **mine, **plain}
