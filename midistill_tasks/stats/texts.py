"""The texts of files of statistics, one after another in the order of the split: never all of them in memory."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np

from midistill_tasks.stats.file import reading, statistics
from midistill_tasks.stats.parts import Part
from midistill_tasks.views import TokenStats, Unscored

AT_ONCE = 256
"""Rows of a file that are in memory."""
OF_DOC = ("id", "label", "cluster", "group", "view", "text", "whole")


class Text(NamedTuple):
    """A text: id, label, cluster and, where the file has them, text and group; by name of the view its statistics."""

    doc: Mapping[str, Any]
    answers: Mapping[str, TokenStats | Unscored]


def texts(parts: Sequence[Part]) -> Iterator[Text]:
    """All texts with their statistics.

    Args:
        parts: of one split, as `parts_below` gives them.

    Raises:
        InputError: a file cannot be read to its end.
    """
    for rows in _in_order(parts, None):
        yield Text(_doc(rows), {row["view"]: statistics(row) for row in rows})


def docs(parts: Sequence[Part]) -> Iterator[Mapping[str, Any]]:
    """The same without their statistics, which are not read."""
    return map(_doc, _in_order(parts, OF_DOC))


def _doc(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    first = rows[0]
    doc = {"id": first["id"], "label": int(first["label"]), "cluster": first["cluster"]}
    words = next((row.get("whole") or row["text"] for row in rows if row["view"] == "text"), None)
    beside = {"text": words, "group": first.get("group")}
    return doc | {name: value for name, value in beside.items() if value is not None}


Rows = Sequence[Mapping[str, Any]]


def _in_order(parts: Sequence[Part], columns: Sequence[str] | None) -> Iterator[Rows]:
    """The rows of each text. Shards lie one after another but where documents reach into each other: a file is opened
    once its first text is due, so that two or three are open at a time."""
    if any(part.places is None for part in parts):
        for part in parts:
            yield from _rows(part, columns)
        return
    waiting = [(int(part.places[0]), number) for number, part in enumerate(parts) if part.places is not None][::-1]
    running: list[tuple[int, int, Rows]] = []
    open_: dict[int, Iterator[tuple[int, Rows]]] = {}

    def push(number: int) -> None:
        with suppress(StopIteration):
            place, rows = next(open_[number])
            heapq.heappush(running, (place, number, rows))

    while waiting or running:
        while waiting and (not running or waiting[-1][0] <= running[0][0]):
            number = waiting.pop()[1]
            open_[number] = _placed(parts[number], columns)
            push(number)
        _, number, rows = heapq.heappop(running)
        yield rows
        push(number)


def _placed(part: Part, columns: Sequence[str] | None) -> Iterator[tuple[int, Rows]]:
    places = [] if part.places is None else part.places.tolist()
    return zip(places, _rows(part, columns), strict=True)


def _rows(part: Part, columns: Sequence[str] | None) -> Iterator[Rows]:
    """The rows of each text of a file, in its order."""
    for _, rows in groupby(_records(part, columns), key=lambda row: row["id"]):
        yield list(rows)


def _records(part: Part, columns: Sequence[str] | None) -> Iterator[Mapping[str, Any]]:
    with reading(part.path) as file:
        there = set(file.parquet.schema_arrow.names)
        wanted = None if columns is None else [name for name in columns if name in there]
        if part.by_text:
            batches = file.parquet.iter_batches(AT_ONCE, columns=wanted)
        else:  # as files were written before shards: view by view
            table = file.parquet.read(columns=wanted)
            ids = np.asarray(table["id"].dictionary_encode().combine_chunks().indices)
            batches = table.take(np.argsort(ids, kind="stable")).to_batches(AT_ONCE)
        for batch in batches:
            for row in batch.to_pandas().to_dict("records"):
                yield {key: None if _is_missing(value) else value for key, value in row.items()}


def _is_missing(value: Any) -> bool:
    """Pandas has a NaN for a string that is not there."""
    return isinstance(value, float) and math.isnan(value)
