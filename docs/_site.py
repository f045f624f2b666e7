"""What mkdocs.yml needs beside the pages: those that are made of README.md, CONTRIBUTING.md and their kin, and links.

A link goes from file to file, as readers of the repository follow it; here it is turned to the page that holds the
file.
"""

from __future__ import annotations

import logging
import posixpath
import re
from pathlib import Path
from typing import Any

import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from nbconvert import MarkdownExporter
from pymdownx.slugs import slugify

import midistill_tasks

ROOT = Path(__file__).parents[1]
WHOLE = None
PAGES: dict[str, tuple[str, tuple[str, ...] | None]] = {
    "start/demo.md": ("README.md", ("Set up",)),
    "start/model.md": ("README.md", ("Your model",)),
    "howto/split.md": ("README.md", ("Your own split",)),
    "howto/models.md": ("README.md", ("Any model",)),
    "howto/attack.md": (
        "CONTRIBUTING.md",
        ("1. An attack on the statistics there are", "2. An attack with a view of its own", "Where your file goes"),
    ),
    "howto/backend.md": ("CONTRIBUTING.md", ("6. A backend", "Where your file goes")),
    "howto/intervention.md": ("CONTRIBUTING.md", ("5. An intervention and its control", "Where your file goes")),
    "start/study.md": ("README.md", ("Distil, study, report",)),
    "explain/auroc.md": ("README.md", ("What an AUROC means",)),
    "explain/made.md": ("README.md", ("How it is made",)),
    "project/citation.md": ("README.md", ("Licence and citation",)),
    "project/contributing.md": ("CONTRIBUTING.md", WHOLE),
    "project/changelog.md": ("CHANGELOG.md", WHOLE),
    "project/security.md": ("SECURITY.md", WHOLE),
    "project/tasks.md": ("task_yamls/README.md", WHOLE),
    "project/shouted.md": ("examples/shouted/README.md", WHOLE),
}
"""Page → its file, and of which of the file's headings it is made. Before docs/index.md stands how README begins."""
TITLES = {
    "howto/attack.md": "An attack of your own",
    "howto/backend.md": "A backend of your own",
    "howto/intervention.md": "An intervention of your own",
}
"""Of pages whose sections have a number where they come from."""
TUTORIAL, NOTEBOOK, EXECUTED = "start/tutorial.md", "examples/tutorial.ipynb", "build/tutorial.ipynb"
HOMES = {
    **{source: page for page, (source, headings) in PAGES.items() if headings is WHOLE},
    "README.md": "index.md",
    "CITATION.cff": "project/citation.md",
    "examples/shouted": "project/shouted.md",
    NOTEBOOK: TUTORIAL,
}
"""File of the repository → the page that a link to it means."""
SHOWN = {
    "project/citation.md": ("CITATION.cff",),
    "project/shouted.md": ("examples/shouted/shouted.py", "examples/shouted/pyproject.toml"),
}
"""Files that stand whole at the end of a page."""
LANGUAGES = {".py": "python", ".toml": "toml", ".cff": "yaml"}
LINK = re.compile(r"(?<=\]\()(?!https?://|mailto:|#)([^)\s#]+)(#[^)\s]*)?(?=\))")
FENCE = re.compile(r"^\s*(```|~~~)")
log = logging.getLogger("mkdocs.hooks.site")


def sections(text: str) -> dict[str, list[str]]:
    """Heading → its lines, those of the headings below it included."""
    found: dict[str, list[str]] = {}
    inside: list[tuple[int, str]] = []
    fenced = False
    for line in text.splitlines():
        fenced ^= bool(FENCE.match(line))
        heading = None if fenced else re.match(r"(#+) (.+)", line)
        if heading:
            level = len(heading.group(1))
            inside = [(above, name) for above, name in inside if above < level]
            inside.append((level, heading.group(2)))
            found[heading.group(2)] = []
        for _, name in inside:
            found[name].append(line)
    return found


def page_of(source: str, headings: tuple[str, ...] | None, title: str = "") -> str:
    """A file, or the sections of it under these headings, below a title or below the first of them.

    The file's own title stands for what is above the first heading below it.

    Raises:
        KeyError: the file has no such heading.
    """
    text = (ROOT / source).read_text(encoding="utf-8")
    if headings is WHOLE:
        return text
    found = sections(text)
    parts = [f"# {title}"] if title else []
    for heading in headings:
        if heading not in found:
            raise KeyError(f"{source} has no heading '{heading}', of which docs/_site.py makes a page: name another")
        lines = found[heading]
        level = len(lines[0]) - len(lines[0].lstrip("#"))
        end = next((i for i, line in enumerate(lines) if line.startswith("## ")), None) if level == 1 else None
        parts.append(_at_level(lines[:end], 2 if parts else 1))
    return "\n\n".join(parts)


def _at_level(lines: list[str], level: int) -> str:
    """The lines with their first heading at this level, and those below it as far below it as they were."""
    by = level - (len(lines[0]) - len(lines[0].lstrip("#")))
    fenced, moved = False, []
    for line in lines:
        fenced ^= bool(FENCE.match(line))
        is_heading = not fenced and re.match(r"#+ ", line)
        moved.append("#" * by + line if is_heading and by > 0 else line[-by:] if is_heading else line)
    return "\n".join(moved)


def turned(text: str, source: str, page: str, pages: set[str]) -> str:
    """The text with each link to a file of the repository as one to the page that holds it."""

    def turn(link: re.Match[str]) -> str:
        if posixpath.normpath(posixpath.join(posixpath.dirname(page), link.group(1))) in pages:
            return link.group(0)
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link.group(1)))
        home, anchor = HOMES.get(target) or target.removeprefix("docs/"), link.group(2) or ""
        if target == "README.md" and anchor:
            home, anchor = _cut_from_readme(anchor), ""
        if home not in pages:
            log.warning("%s links to %s, which is no page: see HOMES in docs/_site.py", source, link.group(1))
        return posixpath.relpath(home, posixpath.dirname(page) or ".") + anchor

    fenced, lines = False, []
    for line in text.splitlines():
        fenced ^= bool(FENCE.match(line))
        lines.append(line if fenced else LINK.sub(turn, line))
    return "\n".join(lines)


def _cut_from_readme(anchor: str) -> str:
    """The page that is made of README's section with this anchor; '' where there is none."""
    cut = (
        (page, heading)
        for page, (source, headings) in PAGES.items()
        if source == "README.md"
        for heading in headings or ()
    )
    return next((page for page, heading in cut if "#" + slugify(case="lower")(heading, "-") == anchor), "")


def python_page() -> str:
    """The public names, each by its docstring."""
    names = sorted(name for name in midistill_tasks.__all__ if not name.startswith("_"))
    homes = midistill_tasks._HOMES
    entries = [f"::: {homes[name].partition(':')[0]}.{homes[name].partition(':')[2] or name}" for name in names]
    return "# Python\n\nAll of `midistill_tasks.__all__`: `from midistill_tasks import …`.\n\n" + "\n\n".join(entries)


def tutorial(config: MkDocsConfig) -> list[File]:
    """The notebook with what it printed and drew, where `.ci/docs` has run it; else without."""
    executed = ROOT / EXECUTED
    notebook = nbformat.read(executed if executed.exists() else ROOT / NOTEBOOK, as_version=4)
    for cell in notebook.cells:  # what libraries say stays in the notebook
        cell.get("outputs", [])[:] = [one for one in cell.get("outputs", []) if one.get("name") != "stderr"]
    text, resources = MarkdownExporter().from_notebook_node(notebook)
    note = "" if executed.exists() else "\n\n!!! note\n    Not run in this build: `.ci/docs` runs it.\n"
    head, _, rest = text.partition("\n\n")
    files = [File.generated(config, TUTORIAL, content=f"{head}{note}\n\n{rest}")]
    return files + [
        File.generated(config, f"start/{name}", content=content) for name, content in resources["outputs"].items()
    ]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that are made."""
    for uri, (source, headings) in PAGES.items():
        text = page_of(source, headings, TITLES.get(uri, ""))
        for name in SHOWN.get(uri, ()):
            shown = (ROOT / name).read_text(encoding="utf-8")
            text += f"\n\n`{Path(name).name}`:\n\n```{LANGUAGES[Path(name).suffix]}\n{shown}```\n"
        files.append(File.generated(config, uri, content=text))
    files.append(File.generated(config, "python.md", content=python_page()))
    for file in tutorial(config):
        files.append(file)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files, **_: Any) -> str:
    """Turns links."""
    uri = page.file.src_uri
    made = {uri: source for uri, (source, _) in PAGES.items()} | {TUTORIAL: NOTEBOOK}
    source = made.get(uri, f"docs/{uri}")
    if uri == "index.md":
        markdown = f"{page_of('README.md', ('midistill',))}\n\n{markdown}"
    return turned(markdown, source, uri, {file.src_uri for file in files})
