"""The lines of a samples_<task>_<date>.jsonl of a MIA task."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import NamedTuple

from midistill_tasks.errors import InputError
from midistill_tasks.metrics import Scored
from midistill_tasks.results.strict import from_strict

FILTERS = ("none", "crossfit")
"""Of the harness's: the score, or where options were swept that of the value chosen on the other half of the texts."""


class Samples(NamedTuple):
    """The texts of one MIA task.

    Attributes:
        items: by rising id.
        texts: the words by id as far as the file has them, in its order.
        names: what the user calls the texts, by id, as far as the file has them.
        blind_ranks: of the blind baseline, in the order of `items`; NaN where the file has none, as older files.
        parts: of an attack that picks among others: their names → scores in the order of `items`.
        groups: of canaries: how often each is repeated, by id.
    """

    items: tuple[Scored, ...]
    texts: dict[str, str]
    names: dict[str, str]
    blind_ranks: tuple[float, ...]
    parts: dict[str, tuple[float, ...]]
    groups: dict[str, str]


def read_samples(path: Path, need_texts: bool = False) -> Samples:
    """The texts of one MIA task.

    Raises:
        InputError: for a broken line, a missing key, a label other than 0 and 1, one id with two figures, or no line;
            with `need_texts` also for a line without its text.
    """
    items: dict[str, Scored] = {}
    texts: dict[str, str] = {}
    names: dict[str, str] = {}
    groups: dict[str, str] = {}
    ranks: dict[str, float] = {}
    parts: dict[str, dict[str, float]] = {}
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            row = _sample(line, f"{path}, line {number}")
            item, text, rank = row.item, row.text, row.rank
            if row.filter_name not in FILTERS:  # of an option's single values
                continue
            ranks[item.id] = rank
            if row.name is not None:
                names[item.id] = row.name
            if row.group is not None:
                groups[item.id] = row.group
            for name, score in row.parts.items():
                parts.setdefault(name, {})[item.id] = score
            known = items.setdefault(item.id, item)
            if repr(known) != repr(item):  # by repr, since NaN != NaN
                raise InputError(f"{path}, line {number}: the text {item.id} stands here twice with different figures")
            if text is not None:
                texts[item.id] = text
            elif need_texts:
                raise InputError(
                    f'{path}, line {number} has no text: run the harness again without {{"mia": {{"log_text": false}}}}'
                )
    if not items:
        raise InputError(f"{path} is empty: run the harness again with --log_samples")
    ids = sorted(items)
    of_parts = {part: tuple(scores.get(id, math.nan) for id in ids) for part, scores in parts.items()}
    return Samples(tuple(items[id] for id in ids), texts, names, tuple(ranks[id] for id in ids), of_parts, groups)


class _Row(NamedTuple):
    item: Scored
    text: str | None
    name: str | None
    group: str | None
    rank: float
    filter_name: str
    parts: dict[str, float]


def _sample(line: bytes, place: str) -> _Row:
    try:
        row = json.loads(line)
        doc = row["doc"]
        label, score = doc["label"], from_strict(doc["score"])
        ids, text = (str(doc["id"]), str(doc.get("cluster", doc["id"]))), doc.get("text")
        name, group = (None if doc.get(key) is None else str(doc[key]) for key in ("name", "group"))
        rank, filter_name = from_strict(doc.get("blind_rank")), str(row.get("filter", "none"))
        parts = {str(name): from_strict(part) for name, part in dict(doc.get("scores") or {}).items()}
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        raise InputError(f"{place} is not a sample of a MIA task: give the file that the harness wrote") from None
    if label not in (0, 1) or not isinstance(label, int):
        raise InputError(f"{place}: the label is {label!r}; labels are 1 for members, 0 for non-members")
    if not isinstance(text, str | None):
        raise InputError(f"{place}: the text is {text!r}, which is no text: give the file that the harness wrote")
    return _Row(Scored(int(label), score, *ids), text, name, group, rank, filter_name, parts)
