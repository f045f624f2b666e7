"""The built site: nothing is loaded from elsewhere, links lead somewhere, no Markdown is left. `.ci/docs` builds it."""

from __future__ import annotations

import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

import midistill_tasks

ROOT = Path(__file__).parents[2]
SITE = os.environ.get("MIDISTILL_SITE")
built = pytest.mark.skipif(SITE is None, reason="no site is built: .ci/docs")
LOADS = {
    **dict.fromkeys(("script", "img", "iframe", "audio", "video", "source", "embed", "track"), "src"),
    **{"link": "href", "object": "data", "form": "action"},
}
"""Tag → the attribute by which a browser asks for something unasked. Of `a` it does not."""
LINKS = ("stylesheet", "icon", "preload", "modulepreload", "preconnect", "dns-prefetch", "prefetch", "manifest")
ELSEWHERE = re.compile(r"(https?:)?//", re.IGNORECASE)
UNMADE = re.compile(r"^\s*(- |\* |:::|```|\|)|\]\([\w./#-]+\)")


class Seen(HTMLParser):
    """What a page loads, where it leads, and its text outside of code."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.hrefs: list[str] = []
        self.ids: set[str] = set()
        self.text: list[str] = []
        self._code = 0
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag in LOADS and (tag != "link" or set(given.get("rel", "").split()) & set(LINKS)):
            self.loaded.append(given.get(LOADS[tag], ""))
        if "srcset" in given or "mermaid" in given.get("class", ""):  # the theme fetches a program for diagrams
            self.loaded.append(given.get("srcset", "https://mermaid"))
        if "style" in given:
            self.loaded += css_urls(given["style"])
        self.ids.add(given.get("id", ""))
        if tag == "a":
            self.hrefs.append(given.get("href", ""))
        self._code += tag in ("code", "pre", "script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._code -= tag in ("code", "pre", "script", "style")

    def handle_data(self, data: str) -> None:
        if not self._code:
            self.text.append(data)


def css_urls(text: str) -> list[str]:
    return re.findall(r"""(?:url\(|@import)\s*["']?([^"')\s;]+)""", text)


def pages() -> list[Path]:
    found = sorted(Path(SITE or "").resolve().rglob("*.html"))
    assert len(found) > 25
    return found


@built
def test_nothing_is_loaded_from_elsewhere():
    asked = {str(page): [url for url in Seen(page).loaded if ELSEWHERE.match(url)] for page in pages()}
    assert {page: urls for page, urls in asked.items() if urls} == {}
    for sheet in Path(SITE or "").rglob("*.css"):
        assert [url for url in css_urls(sheet.read_text(encoding="utf-8")) if ELSEWHERE.match(url)] == [], sheet


@built
def test_what_is_linked_is_there():
    seen = {page: Seen(page) for page in pages() if page.name != "404.html"}
    for page in seen:
        for href in (href for href in seen[page].hrefs if not re.match(r"https?:|mailto:", href)):
            target, _, anchor = href.partition("#")
            there = (page.parent / target).resolve() if target else page
            assert there in seen or (there.is_file() and there.suffix != ".html"), f"{page}: {href}"
            assert not anchor or anchor in seen[there].ids, f"{page}: {href}"


@built
def test_no_markdown_is_left_as_it_was_written():
    left = {page.name: [line for line in Seen(page).text if UNMADE.search(line)] for page in pages()}
    assert {name: lines for name, lines in left.items() if lines} == {}


@built
def test_every_public_name_and_every_page_is_found():
    python = Path(SITE or "", "python.html").read_text(encoding="utf-8")
    for name in midistill_tasks.__all__:
        _, _, other = midistill_tasks._HOMES.get(name, "").partition(":")
        assert name.startswith("_") or re.search(rf'id="midistill_tasks\.[\w.]*\b{other or name}"', python), name
    index = json.loads(Path(SITE or "", "search", "search_index.json").read_text(encoding="utf-8"))
    places = {entry["location"].partition("#")[0] for entry in index["docs"]}
    assert {f"{page.stem}.html" for page in (ROOT / "docs").glob("*.md")} <= places


def test_the_tutorial_is_kept_without_what_it_printed():
    notebook = json.loads((ROOT / "examples" / "tutorial.ipynb").read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert len(cells) > 5
    assert [cell for cell in cells if cell["outputs"] or cell["execution_count"] is not None] == []
