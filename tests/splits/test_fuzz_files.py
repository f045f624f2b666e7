"""Whatever a file holds: every row of it comes out, or one InputError names the file. See CONTRIBUTING.md, "Test"."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from mutate import damaged

from midistill_tasks.errors import InputError
from midistill_tasks.splits import SPLITS
from midistill_tasks.splits.documents import prepare
from midistill_tasks.splits.formats import Table
from midistill_tasks.splits.options import TextOptions
from midistill_tasks.splits.readers import ENDINGS, read_file
from midistill_tasks.splits.rows import load_split

ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32-be", "latin-1")
MARKS = ",;\t\"'\r\n\\{}[]:"
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
NAME = st.text(st.characters(exclude_characters="\0" + MARKS, exclude_categories=["Cs"]), min_size=1).filter(str.strip)
MARKED = st.text(st.sampled_from(MARKS + " abtextü\u2028\x0c"))
"""Text in which what has a meaning for some format is as frequent as what has none."""
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


def read(path: Path, content: bytes) -> Table | None:
    """The columns, or None where an InputError names the file; anything else fails the test."""
    path.write_bytes(gzip.compress(content, 1) if path.suffix == ".gz" else content)
    try:
        table = read_file(path)
    except InputError as error:
        assert str(path) in str(error)  # noqa: PT017 (either is right)
        return None
    assert len({len(values) for values in table.values()}) <= 1
    return table


@given(st.sampled_from(ENDINGS), st.binary() | st.builds(str.encode, MARKED, st.sampled_from(ENCODINGS[:5])))
def test_bytes(folder: Path, ending: str, content: bytes) -> None:
    read(folder / f"a{ending}", content)


@pytest.mark.parametrize("ending", [".parquet", ".arrow", ".jsonl.gz", ".csv.zst"])
@given(data=st.data())
def test_damaged_bytes(folder: Path, ending: str, data: st.DataObject) -> None:
    path, table = folder / f"damaged{ending}", pyarrow.table({"text": ["one", "two"] * 20, "n": list(range(40))})
    if ending == ".parquet":
        pyarrow.parquet.write_table(table, path)
    elif ending == ".arrow":
        with pyarrow.ipc.new_stream(str(path), table.schema) as writer:
            writer.write(table)
    else:
        raw = b'"a line of text"\n' * 9
        path.write_bytes(gzip.compress(raw) if ending.endswith("gz") else pyarrow.compress(raw, "zstd", asbytes=True))
    path.write_bytes(data.draw(damaged(path.read_bytes())))
    try:
        read_file(path)
    except InputError as error:
        assert str(path) in str(error)  # noqa: PT017 (either is right)


@given(
    st.lists(NAME, min_size=1, max_size=4, unique=True).flatmap(
        lambda names: st.tuples(st.just(names), st.lists(st.tuples(*[TEXT | MARKED] * len(names)), max_size=5))
    ),
    st.sampled_from([(",", ".csv"), (",", ".csv.gz"), (";", ".csv"), ("\t", ".csv"), ("\t", ".tsv")]),
    st.sampled_from(
        [("\r\n", csv.QUOTE_MINIMAL), ("\r\n", csv.QUOTE_ALL), ("\n", csv.QUOTE_ALL), ("\r", csv.QUOTE_ALL)]
    ),
    st.sampled_from(["utf-8", "utf-8-sig"]),
)
def test_csv_that_is_whole(
    folder: Path,
    table: tuple[list[str], list[tuple[str, ...]]],
    kind: tuple[str, str],
    style: tuple[str, Any],
    encoding: str,
) -> None:
    (names, rows), (separator, ending), (line_end, quoting) = table, kind, style
    assume(line_end != "\r" or "\n" not in str.join("", [part for row in rows for part in row]))
    assume(not names[0].startswith("\ufeff"))  # taken for another mark of the byte order
    written = io.StringIO(newline="")
    csv.writer(written, delimiter=separator, lineterminator=line_end, quoting=quoting).writerows([names, *rows])
    expected = {name: [row[place] for row in rows] for place, name in enumerate(names)}
    assert read(folder / f"whole{ending}", written.getvalue().encode(encoding)) == expected


@given(st.sampled_from([".csv", ".tsv"]), MARKED | st.builds("text,b\n{}".format, MARKED))
def test_csv_that_may_be_broken(folder: Path, ending: str, content: str) -> None:
    """No character gets lost beside quotes, separators and line ends."""
    table = read(folder / f"a{ending}", content.encode())
    if table is not None:
        came_out = [*table, *(value for values in table.values() for value in values)]
        assert _plain(str.join("", came_out)) == _plain(content)


def _plain(text: str) -> Counter[str]:
    return Counter(letter for letter in text if letter not in ',;\t"\r\n')


@given(
    st.lists(TEXT | st.dictionaries(st.text(max_size=4), JSON, max_size=3), max_size=5),
    st.sampled_from([".jsonl", ".ndjson", ".json", ".json.gz"]),
    st.booleans(),
    st.booleans(),
)
def test_json_that_is_whole(folder: Path, rows: list[Any], ending: str, listed: bool, ascii_only: bool) -> None:
    lines = [json.dumps(row, ensure_ascii=ascii_only) for row in rows]
    content = f"[{', '.join(lines)}]" if listed else "\n".join(lines)
    assume(ascii_only or not any("\ud800" <= letter <= "\udfff" for letter in content))
    table = read(folder / f"a{ending}", content.encode())
    halves = any("\ud800" <= letter <= "\udfff" for letter in json.dumps(rows, ensure_ascii=False))
    if halves:
        assert table is None
        return
    assert table is not None
    objects = [{"text": row} if isinstance(row, str) else row for row in rows]
    columns = dict.fromkeys(key for row in objects for key in row)
    assert repr(table) == repr({key: [row.get(key) for row in objects] for key in columns})


@given(st.lists(JSON.map(json.dumps) | MARKED.filter(lambda line: "\n" not in line and "\r" not in line), max_size=4))
def test_json_lines_that_may_be_broken(folder: Path, lines: list[str]) -> None:
    table = read(folder / "a.jsonl", "\n".join(lines).encode())
    if table and not lines[0].lstrip(" \t").startswith("["):
        assert len(next(iter(table.values()))) == sum(bool(line.strip()) for line in lines)


@given(st.lists(TEXT.filter(lambda text: not {"\n", "\r"} & set(text))), st.sampled_from(["\n", "\r\n", "\r"]))
def test_txt(folder: Path, texts: list[str], line_end: str) -> None:
    content = "".join(text + line_end for text in texts)
    assume(not content.startswith("\ufeff"))
    assert read(folder / "a.txt", content.encode()) == {"text": texts}


@given(
    st.lists(st.text(st.sampled_from("ab \n"), max_size=2), max_size=12),
    st.lists(st.text(st.sampled_from("ac \n"), max_size=2), max_size=12),
    st.integers(1, 3),
    st.none() | st.integers(2, 4),
)
def test_every_row_of_both_sides_is_scored_or_counted(
    folder: Path, members: list[str], nonmembers: list[str], shots: int, n: int | None
) -> None:
    for name, texts in (("m", members), ("n", nonmembers)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    own = {"members": str(folder / "m.jsonl"), "nonmembers": str(folder / "n.jsonl")}
    options = TextOptions(shots=shots, n=n, own=own)
    try:
        prepared = prepare(load_split(SPLITS["files"], {}, options), options)
    except InputError:
        return
    counts = dict(prepared.counts)
    everything = prepare(load_split(SPLITS["files"], {}, options), options.model_copy(update={"n": None})).counts
    assert sum(everything.values()) == len(members) + len(nonmembers)
    drawn = (n or everything["members"], n or everything["nonmembers"])
    assert (counts["members"], counts["nonmembers"]) == drawn
    assert len(prepared.docs) == counts["members"] + counts["nonmembers"]
    assert isinstance(prepared.docs, datasets.Dataset)
