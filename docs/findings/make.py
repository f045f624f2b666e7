"""Writes docs/findings.md, docs/findings-tables.md and their figures: ``python docs/findings/make.py``.

Every figure in them is looked up in docs/findings/data by the templates beside this file, and none is typed there.
``--check`` writes nothing, and fails where what is committed is not what the data give.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from figure import frontier_figure
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from lookups import Data, MissingFigureError, globals_of, inside, value

HERE = Path(__file__).parent
PAGES = ("findings.md", "findings-tables.md")
FIGURE = "frontier.svg"

_NO_PROSE = re.compile(
    r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}|```.*?```|`[^`]*`|\]\([^)]*\)|https?://\S+|^ {4}.*?$", re.S | re.M
)
_FIGURE = re.compile(r"\d\.\d\d+|±\s*\d|[\[−]\d")


def typed(template: str) -> list[str]:
    """Figures that stand in a template's prose instead of being looked up: decimals, errors, limits."""
    return _FIGURE.findall(_NO_PROSE.sub(" ", template))


def made(here: Path) -> dict[Path, str]:
    """File → what it is to hold.

    Args:
        here: the folder with the templates and with data/; the pages lie beside it.

    Raises:
        MissingFigureError: a template asks for a figure that the data do not have, or has one of its own.
    """
    data = Data(here / "data")
    environment = Environment(  # noqa: S701 (Markdown, of committed files)
        loader=FileSystemLoader(here), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals.update(globals_of(data))
    environment.filters.update({"value": value, "inside": inside})
    files = {}
    for template in sorted(here.glob("*.jinja")):
        if figures := typed(template.read_text(encoding="utf-8")):
            raise MissingFigureError(
                f"{template.name} has figures of its own ({', '.join(figures)}): look them up in the data"
            )
    for page in PAGES:
        text = environment.get_template(f"{page}.jinja").render()
        files[here.parent / page] = re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"
    for study in data.studies():
        if data.has(study, "frontier"):
            files[here / "data" / study / FIGURE] = frontier_figure(data, study)
    return files


def stale(here: Path) -> list[Path]:
    """The files that do not hold what they are to hold; raises as `made`."""
    return [file for file, text in made(here).items() if not file.is_file() or file.read_text(encoding="utf-8") != text]


def main() -> int:
    """Writes or compares; 1 where they differ or a figure is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only compare")
    try:
        if parser.parse_args().check:
            old = stale(HERE)
            for file in old:
                print(f"{file.name} is not what the data give: python docs/findings/make.py", file=sys.stderr)
            return 1 if old else 0
        for file, text in made(HERE).items():
            file.write_text(text, encoding="utf-8")
    except MissingFigureError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
