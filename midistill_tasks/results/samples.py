"""The lines of a samples_<task>_<date>.jsonl of a MIA task."""

from __future__ import annotations

import json
from pathlib import Path

from midistill_tasks.errors import InputError
from midistill_tasks.metrics import Scored


def read_samples(path: Path, need_texts: bool = False) -> tuple[tuple[Scored, ...], dict[str, str]]:
    """The texts of one MIA task by rising id, and their words by id as far as the file has them, in its order.

    Raises:
        InputError: for a broken line, a missing key, a label other than 0 and 1, one id with two figures, or no line;
            with `need_texts` also for a line without its text.
    """
    items: dict[str, Scored] = {}
    texts: dict[str, str] = {}
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            item, text = _sample(line, f"{path}, line {number}")
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
    return tuple(items[name] for name in sorted(items)), texts


def _sample(line: bytes, place: str) -> tuple[Scored, str | None]:
    try:
        doc = json.loads(line)["doc"]
        label, score = doc["label"], float(doc["score"])
        names, text = (str(doc["id"]), str(doc.get("cluster", doc["id"]))), doc.get("text")
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        raise InputError(f"{place} is not a sample of a MIA task: give the file that the harness wrote") from None
    if label not in (0, 1) or not isinstance(label, int):
        raise InputError(f"{place}: the label is {label!r}; labels are 1 for members, 0 for non-members")
    if not isinstance(text, str | None):
        raise InputError(f"{place}: the text is {text!r}, which is no text: give the file that the harness wrote")
    return Scored(int(label), score, *names), text
