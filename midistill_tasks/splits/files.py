"""The user's own texts: a file of members and a file of non-members."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from midistill_tasks.errors import InputError
from midistill_tasks.options import option
from midistill_tasks.splits import readers
from midistill_tasks.splits.base import Split
from midistill_tasks.splits.options import TextOptions

if TYPE_CHECKING:
    import datasets


def load(
    options: TextOptions,
    copy: Path | None,
    *,
    members: str | None = option(None, "a JSONL, CSV, Parquet or txt file of member texts"),
    nonmembers: str | None = option(None, "the same for non-members"),
    column: str = option("text", "the column that holds the text"),
) -> datasets.Dataset:
    """Texts of the files that ``members`` and ``nonmembers`` name (see `readers.read_file` for the formats; a txt file
    holds one text a line), from the column that ``column`` names.

    Where both files have a column ``cluster`` of str (say, the document a passage was cut from), it is kept.

    Raises:
        InputError: a file is not named, or cannot be read; the column is missing; a value is not a string.
    """
    table: readers.Table = {"text": [], "label": []}
    clusters: list[str] = []
    for name, path, label in (("members", members, 1), ("nonmembers", nonmembers, 0)):
        if path is None:
            raise InputError(
                f"the split 'files' needs a file of {name}: add"
                ' --metadata \'{"mia": {"members": "a.jsonl", "nonmembers": "b.jsonl"}}\''
            )
        file = Path(path).expanduser()
        rows = readers.read_file(file)
        texts = readers.pick_texts(rows, column, str(file))
        table["text"] += texts
        table["label"] += [label] * len(texts)
        clusters += readers.pick_texts(rows, "cluster", str(file)) if "cluster" in rows else []
    if len(clusters) == len(table["text"]):
        table["cluster"] = clusters
    return readers.to_dataset(table, "files")


SPLITS = (
    Split(
        name="files",
        title="your own texts, from the files that the options members and nonmembers name",
        valid_for="the model of which you know that it saw the members and not the non-members",
        loader=load,
        downloads=False,
    ),
)
