"""What a report consists of: sentences, charts and tables, in their order."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from midistill_tasks.results.table import Cell, Table

NO_LEGEND = Markup("")


@dataclass(frozen=True)
class Statement:
    """An answer.

    Attributes:
        about: whom it is about.
        word, sentence: what it says.
        opening: what of the sentence answers the page's question.
        figures: (column, cell) of the table that many answers share.
        perplexity: of the model, beside the teacher's where there is one; empty where the runs have none.
    """

    about: str
    word: str
    sentence: str
    opening: str = ""
    figures: tuple[tuple[str, Cell], ...] = ()
    perplexity: str = ""


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
        glossary: words of the section and what they mean, folded away on screen.
        files: tables that are written beside the page, and do not stand on it.
    """

    heading: str
    text: tuple[str, ...] = ()
    charts: tuple[tuple[str, Markup], ...] = ()
    small: tuple[Markup, ...] = ()
    small_note: str = ""
    legend: Markup = NO_LEGEND
    tables: tuple[tuple[Table, str], ...] = ()
    folded: tuple[tuple[Table, str], ...] = ()
    glossary: tuple[tuple[str, str], ...] = ()
    files: tuple[Table, ...] = ()


@dataclass(frozen=True)
class Page:
    """The whole report.

    Attributes:
        title, lead: the head.
        facts: (name, words) of what was evaluated, when and on what: below the title.
        statements: the answers.
        answers: the same as a table; None where they are few enough to stand as they are.
        common: what all statements say, below that table.
        warnings: what a reader must know before any figure.
        next: what to do now, in a sentence or two each.
        sections: the rest.
    """

    title: str
    lead: str
    statements: tuple[Statement, ...]
    warnings: tuple[str, ...]
    next: tuple[str, ...]
    sections: tuple[Section, ...]
    facts: tuple[tuple[str, str], ...] = ()
    answers: Table | None = None
    common: str = ""

    @property
    def summary(self) -> str:
        """For a terminal: the first paragraph, the answers, the warnings, the first table and what to do now."""
        first = next(table for section in self.sections for table, _ in (*section.tables, *section.folded))
        return "\n\n".join(
            [
                self.lead,
                *(f"{each.about}: {each.sentence}" for each in self.statements),
                *(f"warning: {warning}" for warning in self.warnings),
                first.markdown(),
                *self.next,
            ]
        )

    @property
    def tables(self) -> list[Table]:
        """All of them, in the page's order."""
        shown = [table for section in self.sections for table, _ in (*section.tables, *section.folded)]
        return [*([self.answers] if self.answers else []), *shown]

    @property
    def files(self) -> list[Table]:
        """What is written beside the page: all tables of it, and those that are too long for it."""
        return [*self.tables, *(table for section in self.sections for table in section.files)]
