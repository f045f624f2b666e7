"""Reads the harness's samples_mia_*.jsonl: which text got which score from which attack."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from midistill_tasks.errors import InputError

_NAME = re.compile(r"samples_mia_(?P<attack>[^_]+)_(?P<split>.+?)_(?P<date>\d{4}-\d\d-\d\dT.+)\.jsonl")


@dataclass(frozen=True)
class Row:
    """A text as one attack scored it; `score` is NaN where it could not."""

    id: str
    label: int
    text: str
    cluster: str
    score: float


@dataclass(frozen=True)
class Samples:
    """What one MIA task wrote of one model, by the text's id."""

    attack: str
    split: str
    path: Path
    rows: dict[str, Row]


def read_all(places: Iterable[str | Path]) -> dict[str, Samples]:
    """The newest samples of every attack in the given files and folders, by attack.

    Raises:
        InputError: if there are none, if they belong to several splits, or if a file cannot be used.
    """
    newest: dict[str, tuple[str, str, Path]] = {}
    for path in _files(places):
        match = _NAME.fullmatch(path.name)
        if match is None:
            raise InputError(f"{path} is not named samples_mia_<attack>_<split>_<date>.jsonl: give the harness's file")
        entry = (match["date"], match["split"], path)
        task = f"{match['attack']}_{match['split']}"
        newest[task] = max(newest.get(task, entry), entry)
    splits = sorted({split for _, split, _ in newest.values()})
    if len(splits) > 1:
        raise InputError(f"these samples belong to several splits ({', '.join(splits)}): give the files of one")
    found = {task.split("_")[0]: read(path) for task, (_, _, path) in sorted(newest.items())}
    _same_texts(list(found.values()))
    return found


def read(path: Path) -> Samples:
    """One file of samples.

    Raises:
        InputError: for a broken line, a missing key, a run without texts, or one id with two scores.
    """
    match = _NAME.fullmatch(path.name)
    attack, split = (match["attack"], match["split"]) if match else ("?", "?")
    rows: dict[str, Row] = {}
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            row = _row(line, f"{path}, line {number}")
            known = rows.setdefault(row.id, row)
            if (known.label, known.score) != (row.label, row.score) and not math.isnan(known.score):
                raise InputError(f"{path}, line {number}: the text {row.id} stands here twice with different figures")
    if not rows:
        raise InputError(f"{path} is empty: run the harness again with --log_samples")
    return Samples(attack, split, path, rows)


def _row(line: str, place: str) -> Row:
    try:
        doc = json.loads(line)["doc"]
        values = doc["id"], int(doc["label"]), doc["cluster"], float(doc["score"])
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{place} is not a sample of a MIA task: give the file that the harness wrote") from None
    if "text" not in doc:
        raise InputError(f'{place} has no text: run the harness again without {{"mia": {{"log_text": false}}}}')
    return Row(id=values[0], label=values[1], text=doc["text"], cluster=values[2], score=values[3])


def _files(places: Iterable[str | Path]) -> list[Path]:
    paths: list[Path] = []
    for place in map(Path, places):
        inside = sorted(place.rglob("samples_mia_*.jsonl")) if place.is_dir() else []
        if place.is_dir() and not inside:
            raise InputError(f"{place} holds no samples_mia_*.jsonl: run lm_eval with --log_samples and --output_path")
        if not place.exists():
            raise InputError(f"{place} does not exist: give samples_mia_*.jsonl files, or the folder that holds them")
        paths += inside or [place]
    return paths


def _same_texts(samples: Sequence[Samples]) -> None:
    """All attacks must have seen the same texts with the same labels, or a vote would mix two things."""
    labels = [{row.id: row.label for row in one.rows.values()} for one in samples]
    for one, other in zip(samples, labels, strict=True):
        if other != labels[0]:
            differing = sum(1 for key in labels[0].keys() | other.keys() if labels[0].get(key) != other.get(key))
            raise InputError(
                f"{one.path} and {samples[0].path} differ in {differing} texts or labels: run both attacks in one go"
            )
