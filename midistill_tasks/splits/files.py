"""The user's own texts: files of members and files of non-members."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from midistill_tasks.errors import InputError
from midistill_tasks.options import option
from midistill_tasks.splits import readers
from midistill_tasks.splits.base import Split
from midistill_tasks.splits.options import TextOptions
from midistill_tasks.splits.sources import FORMS, Source, read_source

if TYPE_CHECKING:
    import datasets


def load(
    options: TextOptions,
    copy: Path | None,
    *,
    members: Source | None = option(None, f"member texts: {FORMS}"),
    nonmembers: Source | None = option(None, "the same for non-members"),
    column: str = option("text", "the column that holds the text"),
    id_column: str | None = option(
        None, "the column by which samples, page and exposed.csv name each text; by default its file and row"
    ),
) -> datasets.Dataset:
    """Texts of what ``members`` and ``nonmembers`` name (see `Source`), from the column that ``column`` names.

    A column ``cluster`` of str (say, the document a passage was cut from) is kept; texts of files without it are
    documents of their own. The column ``name`` says which text of the user's each row is.

    Raises:
        InputError: a file is not named, or cannot be read; the column is missing; a value is not a string.
    """
    table: readers.Table = {"text": [], "label": [], "cluster": []}
    named: list[tuple[str, Sequence[str] | range]] = []
    for name, source, label in (("members", members, 1), ("nonmembers", nonmembers, 0)):
        if source is None:
            raise InputError(
                f"the split 'files' needs a file of {name}: add"
                ' --metadata \'{"mia": {"members": "a.jsonl", "nonmembers": "b.jsonl"}}\''
            )
        for where, rows in read_source(source):
            texts = readers.pick_texts(rows, column, where)
            table["text"] += texts
            table["label"] += [label] * len(texts)
            table["cluster"] += readers.pick_texts(rows, "cluster", where) if "cluster" in rows else [""] * len(texts)
            rows_of = range(1, len(texts) + 1)
            named.append((where, rows_of if id_column is None else _ids(rows, id_column, where)))
    if not any(table["cluster"]):
        del table["cluster"]
    return readers.to_dataset(table | {"name": list(_names(named))}, "files")


def _names(named: Sequence[tuple[str, Sequence[str] | range]]) -> Iterator[str]:
    """By the user's column, or ``train.jsonl:12`` with rows counted from 1, and the folders that tell files apart."""
    paths = {tuple(where.rstrip("/").split("/")) for where, _ in named}
    depth = 1
    while len({path[-depth:] for path in paths}) < len(paths):
        depth += 1
    for where, rows in named:
        file = "/".join(where.rstrip("/").split("/")[-depth:])
        yield from (f"{file}:{row}" if isinstance(row, int) else row for row in rows)


def _ids(rows: readers.Table, id_column: str, where: str) -> list[str]:
    values = readers.pick_column(rows, id_column, where)
    for row, value in enumerate(values, 1):
        if value is None or isinstance(value, (list, dict)):
            raise InputError(
                f"{where}, row {row}: '{id_column}' is {value!r}, which names no text; correct that row, or leave out"
                " id_column"
            )
    return [str(value) for value in values]


SPLITS = (
    Split(
        name="files",
        title="your own texts, from the files that the options members and nonmembers name",
        valid_for="the model of which you know that it saw the members and not the non-members",
        loader=load,
        downloads=False,
        needs={"members": "in.jsonl", "nonmembers": "out.jsonl"},
    ),
)
