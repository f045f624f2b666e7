"""What a report consists of: sentences, charts and tables, in their order."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from midistill_tasks.results.table import Table

NO_LEGEND = Markup("")


@dataclass(frozen=True)
class Statement:
    """An answer: whom it is about, its word and its sentence."""

    about: str
    word: str
    sentence: str


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        heading: with the split's name where there are several.
        text: paragraphs before the charts.
        charts: (caption, SVG).
        small: charts of one kind that share the note below them.
        legend: of the charts.
        tables: shown, in this order, each with a note on how to read it.
        folded: the same, folded away on screen.
    """

    heading: str
    text: tuple[str, ...] = ()
    charts: tuple[tuple[str, Markup], ...] = ()
    small: tuple[Markup, ...] = ()
    small_note: str = ""
    legend: Markup = NO_LEGEND
    tables: tuple[tuple[Table, str], ...] = ()
    folded: tuple[tuple[Table, str], ...] = ()


@dataclass(frozen=True)
class Page:
    """The whole report."""

    title: str
    lead: str
    statements: tuple[Statement, ...]
    warnings: tuple[str, ...]
    sections: tuple[Section, ...]

    @property
    def summary(self) -> str:
        """For a terminal: the first paragraph, the warnings and the first table."""
        return "\n\n".join(
            [self.lead, *(f"warning: {warning}" for warning in self.warnings), self.tables[0].markdown()]
        )

    @property
    def tables(self) -> list[Table]:
        """All of them, in the page's order."""
        return [table for section in self.sections for table, _ in (*section.tables, *section.folded)]
