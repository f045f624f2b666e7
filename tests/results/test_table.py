"""What a cell says is read as it stands."""

from __future__ import annotations

import csv
import io

import pytest
from markdown_it import MarkdownIt

from midistill_tasks.results.table import Table, shown

ALIVE = [
    "![i](http://example.org/pixel.png)",
    "[click](javascript:alert(1))",
    "<img src=x onerror=alert(1)>",
    "<http://example.org>",
    "https://example.org",
    "`code` and **bold** and *so*",
    r"\| | a cell more \\| and",
    "&lt;b&gt; &#60;b&#62;",
    "_so_ and __so__, my_model and _",
    "~~gone~~ and ~so~",
    "www.example.org and (www.example.org",
    "[a][b]\n\n[b]: http://example.org",
    "two\nlines",
]


@pytest.mark.parametrize("text", ALIVE)
def test_nothing_comes_alive_when_the_markdown_is_rendered(text):
    table = Table(text, text, ("text", "other"), ((text, "next"),))
    parser = MarkdownIt("commonmark", {"linkify": False}).enable(["table", "strikethrough"])
    cells = [token for token in parser.parse(table.markdown()) if token.type == "inline"]
    assert len(cells) == 5  # the title, two columns, two cells
    for token in (cells[0], cells[3]):
        assert {child.type for child in token.children} <= {"text", "text_special", "strong_open", "strong_close"}
        assert "www." not in table.markdown(), "GitHub makes a link of it"
        assert "".join(child.content for child in token.children) == " ".join(text.split())


def test_a_cell_of_a_csv_stays_one_whatever_ends_its_lines():
    texts = ("one\r=1+1", "two\r\nlines", "three\nlines", "=2+2")
    read = list(csv.reader(io.StringIO(Table("t", "t", ("text",), tuple((text,) for text in texts)).csv(), newline="")))
    assert read == [["text"], ["one\n=1+1"], ["two\nlines"], ["three\nlines"], ["'=2+2"]]


def test_what_a_spreadsheet_would_run_is_text_in_a_csv_also_behind_blanks_and_in_the_header():
    runs = ("=1+1", "+1", "-1", "@x", "\t=1+1", " =1+1", "\r=1+1", "\n@x", "\uff1d1+1", "\uff20x")
    written = Table("t", "t", runs, (runs, tuple(f"a {text}" for text in runs))).csv()
    header, first, second = csv.reader(io.StringIO(written, newline=""))
    assert header == first
    assert all(cell.startswith("'") for cell in first)
    assert [cell.replace("\n", "\r") for cell in second] == [f"a {text}".replace("\n", "\r") for text in runs]


def test_a_figure_of_any_size_fits_a_cell():
    assert [shown(value) for value in (1e308, -2.5e12, 12345678.0, float("inf"))] == [
        *("1e+308", "-2.5e+12", "12,345,678", "inf"),
    ]
