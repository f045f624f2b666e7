"""The report: one HTML file that stands alone, and the same tables as Markdown and CSV."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from midistill_tasks import __version__
from midistill_tasks.compare.controls import NOTE, controls_table
from midistill_tasks.compare.pairs import Comparison, compare, noted
from midistill_tasks.errors import InputError
from midistill_tasks.report import alone, sections
from midistill_tasks.report.findings import Findings, area, find, interval
from midistill_tasks.report.page import Page, Section, Statement
from midistill_tasks.report.provenance import provenance
from midistill_tasks.results.matching import option_notes, skip_notes, version_notes
from midistill_tasks.results.roles import Group
from midistill_tasks.results.table import shown

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
    comparisons: list[Comparison] = []
    if group.teacher and group.arms:
        comparisons = compare(group.teacher.runs[0], {entry.name: entry.runs for entry in group.arms})
    if not group.splits:
        had = ", ".join(dict.fromkeys(split for run in group.runs for split in run.splits))
        raise InputError(f"there is no split on which all seeds of a model have figures ({had}): evaluate them alike")
    found = [find(group, split, comparisons) for split in group.splits]
    parts: list[Section] = []
    against: list[Statement] = []
    for one in found:
        parts += [sections.overview(one)]
        controls = controls_table(group, one.split)
        if controls:
            parts += [Section(f"Interventions and their controls: {one.split}", tables=((controls, NOTE),))]
            against += [Statement(str(row[0]), str(row[4]), "") for row in controls.rows]
        parts += [sections.trade(one, utility), sections.curves(one)]
        parts += [sections.matrices(one)] if one.comparisons else []
        parts += [sections.exposed(one, show_texts), sections.epsilon_section(one)]
    together = sections.ensembles(group)
    parts += [together] if together else []
    answered = [one for one in found if one.comparisons] or found
    statements = [statement for one in answered for statement in _statements(one, len(found) == 1)]
    return Page(
        title=_title(group),
        lead=_lead(group, found, statements, against),
        statements=tuple(statements),
        warnings=tuple(_warnings(group, found)),
        sections=(*parts, provenance(group)),
    )


def _title(group: Group) -> str:
    if group.teacher and group.arms:
        return f"Membership audit: {group.teacher.name} and {_count(len(group.arms), 'other')}"
    return f"Membership audit: {', '.join(entry.name for entry in group.entries[:3])}" + (
        f" and {len(group.entries) - 3} more" if len(group.entries) > 3 else ""
    )


def _statements(found: Findings, alone_on_page: bool) -> list[Statement]:
    several = "" if alone_on_page else f" on {found.split}"
    if found.comparisons:
        return [Statement(one.arm + several, one.verdict.word, one.verdict.sentence) for one in found.comparisons]
    return [Statement(entry.name + several, *alone.sentence(found, entry)) for _, entry in found.entries]


def _lead(group: Group, found: list[Findings], statements: list[Statement], against: list[Statement]) -> str:
    """The first paragraph: the answers counted, on what they rest, and what they do not say."""
    texts = "; ".join(
        f"{one.first.labels.sum()} members and {(~one.first.labels).sum()} non-members of {one.split}, "
        f"{_count(len(one.attacks), 'attack')}"
        for one in found
    )
    said = _counted(statements)
    if not (group.teacher and group.arms):
        models = "this model was" if len(group.entries) == 1 else "these models were"
        proof = "An attack that finds nothing is no proof of privacy."
        return f"Can it be told which texts {models} trained on? {said}. Measured on {texts}. {proof}"
    seeds = {len(entry.runs) for entry in group.arms}
    single = [entry.name for entry in group.arms if len(entry.runs) == 1]
    reach = (
        "Each is one seed: whether others trained in the same way are safer is undecided."
        if seeds == {1}
        else f"Seeds of each: {', '.join(map(str, sorted(seeds)))}"
        + (f"; one seed ({', '.join(single)}) says nothing of others." if single else ".")
    )
    controlled = f" Interventions against their controls: {_counted(against)}." if against else ""
    return (
        "Does a student give away less than its teacher about the texts they were trained on? Of "
        f"{_count(len(statements), 'comparison')} with {group.teacher.name}: {said}. Measured on {texts}, with 95 % "
        f"intervals. {reach}{controlled} A weaker model leaks less: read each answer beside the model's perplexity."
    )


def _counted(statements: Sequence[Statement]) -> str:
    """``2 safer (a, b), 1 undecided (c)``, the names only where they are few."""
    parts = []
    for word in ("safer", "not safer", "leaks", "no leak found", "undecided"):
        names = [statement.about for statement in statements if statement.word == word]
        listed = f" ({', '.join(names)})" if len(names) <= 8 else ""
        parts += [f"{len(names)} {word}{listed}"] if names else []
    return ", ".join(parts)


def _warnings(group: Group, found: list[Findings]) -> list[str]:
    warnings = [f"Not in this report: {failure}" for failure in group.failed]
    for one in found:
        areas = [
            area(tasks)
            for attack in one.attacks
            for _, entry in one.entries
            if (tasks := entry.results(one.split, attack))
        ]
        beaten = sum(one.blind_wins(value) for value in areas)
        if beaten:
            coins = one.first.metadata["independent_coins"]
            warnings.append(
                f"The blind baseline wins on {one.split}: a classifier that sees only words, and no model, reaches "
                f"AUROC {shown(interval(one.blind))}, at least as good as {beaten} of {len(areas)} results (marked ⚠). "
                f"They measure how the two sets of texts differ{', here by chance: coins chose them' if coins else ''}."
            )
        if not one.same_texts:
            warnings.append(
                f"The models were attacked on different texts of {one.split}: their figures do not compare. "
                "Evaluate all with the same --limit and --metadata."
            )
        warnings += noted(one.comparisons)
        if not one.comparisons:
            warnings += option_notes([run for _, entry in one.entries for run in entry.runs], one.split)
    left_out = dict.fromkeys(split for run in group.runs for split in run.splits if split not in group.splits)
    warnings += [f"{split} is left out: no model, or not all seeds of one, have figures on it" for split in left_out]
    warnings += [*version_notes(group.runs), *skip_notes(group.runs)]
    return [warning if warning.endswith(".") else f"{warning}." for warning in dict.fromkeys(warnings)]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def write(page: Page, folder: Path) -> Path:
    """Writes index.html, report.md and a CSV file a table; returns the page's path."""
    folder.mkdir(parents=True, exist_ok=True)
    environment = Environment(
        loader=PackageLoader("midistill_tasks.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["shown"] = shown
    html = environment.get_template("report.html.jinja").render(page=page, version=__version__)
    (folder / HTML).write_text(html, encoding="utf-8")
    head = [f"# {page.title}", page.lead, *(f"- **{one.about}**: {one.sentence}" for one in page.statements)]
    head += [f"> {warning}" for warning in page.warnings]
    body = "\n".join(table.markdown() for table in page.tables)
    (folder / MARKDOWN).write_text("\n\n".join(map(_markdown_safe, head)) + "\n\n" + body, encoding="utf-8")
    for table in page.tables:
        (folder / f"{table.name}.csv").write_text(table.csv(), encoding="utf-8")
    return folder / HTML


def _markdown_safe(line: str) -> str:
    return line.replace("<", "&lt;")
