"""The report: one HTML file that stands alone, and the same tables as Markdown and CSV."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from midistill_tasks import __version__
from midistill_tasks.errors import InputError
from midistill_tasks.files import write_atomically
from midistill_tasks.report import answers as table_of
from midistill_tasks.report.advice import advice
from midistill_tasks.report.facts import facts, long
from midistill_tasks.report.findings import Settings, answer, find
from midistill_tasks.report.lead import lead, statements, title, warnings
from midistill_tasks.report.masking import mask
from midistill_tasks.report.page import Page, Statement
from midistill_tasks.report.sections import in_order
from midistill_tasks.results.roles import Group
from midistill_tasks.results.table import markdown_safe, shown

HTML = "index.html"
MARKDOWN = "report.md"


def build(group: Group, show_texts: bool = False, utility: str | None = None) -> Page:
    """Everything the page says.

    Args:
        group: the models.
        show_texts: the most exposed texts as they are, not masked.
        utility: ``task/metric`` for the chart of privacy and utility; by default the first perplexity all runs have.

    Raises:
        InputError: where the runs cannot be compared, see `compare`, lack the utility figure, or share no split.
    """
    answers = answer(group)
    if not group.splits:
        had = ", ".join(dict.fromkeys(split for run in group.runs for split in run.splits))
        raise InputError(f"there is no split on which all seeds of a model have figures ({had}): evaluate them alike")
    splits = [find(group, split, answers, Settings(show_texts, utility)) for split in group.splits]
    parts = in_order()
    made = [part.make(findings) for findings in splits for part in parts if part.per == "split"]
    made += [part.make(splits[0]) for part in parts if part.per == "page"]
    said = table_of.with_figures(statements(splits), splits)
    answered = table_of.table(said)
    return Page(
        title=title(group),
        lead=lead(group, splits, said),
        statements=said,
        warnings=warnings(group, splits),
        next=advice(splits, said),
        sections=tuple(section for section in made if section is not None),
        facts=facts(group, splits, __version__),
        answers=answered,
        common=table_of.common(said) if answered else "",
    )


def write(page: Page, folder: Path) -> Path:
    """Writes index.html, report.md and a CSV file a table; returns the page's path."""
    environment = Environment(
        loader=PackageLoader("midistill_tasks.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["shown"] = shown
    environment.tests["masked"] = lambda cell: isinstance(cell, str) and mask(cell) == cell
    html = environment.get_template("report.html.jinja").render(
        page=page, version=__version__, folded=long(page.facts), singly=table_of.without(page.statements, page.common)
    )
    write_atomically(folder / HTML, html)
    head = [f"# {markdown_safe(page.title)}", *_lines(page.facts), markdown_safe(page.lead)]
    head += [_answer(each) for each in page.statements]
    head += [f"> {markdown_safe(warning)}" for warning in page.warnings]
    head += ["What to do now: " + markdown_safe(" ".join(page.next))] if page.next else []
    body = "\n".join(table.markdown() for table in page.tables)
    write_atomically(folder / MARKDOWN, "\n\n".join(head) + "\n\n" + body)
    for table in page.files:
        write_atomically(folder / table.file, table.csv())
    return folder / HTML


def _lines(facts: Sequence[tuple[str, str]]) -> list[str]:
    return ["\n".join(f"- {markdown_safe(name)}: {markdown_safe(words)}" for name, words in facts)] if facts else []


def _answer(said: Statement) -> str:
    beside = f" ({said.perplexity})" if said.perplexity else ""
    return f"- **{markdown_safe(said.about)}**: {markdown_safe(said.sentence + beside)}"
