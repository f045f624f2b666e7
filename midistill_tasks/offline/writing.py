"""Results and samples of attacks on statistics, as the harness writes those of a run."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

from midistill_tasks.attacks import ATTACKS
from midistill_tasks.files import whole_file, write_atomically
from midistill_tasks.harness.keys import default_metrics
from midistill_tasks.metrics import METRICS
from midistill_tasks.offline.attacks import Attacked
from midistill_tasks.results.strict import strict, strict_sample
from midistill_tasks.stats.file import model_folder
from midistill_tasks.stats.parts import Part
from midistill_tasks.stats.texts import docs

_ELSE = ", such as another --output"


def write(folder: Path, parts: Sequence[Part], attacked: Sequence[Attacked]) -> Path:
    """Writes results and samples as the harness does, in a folder of the model; returns the results file.

    Args:
        folder: where.
        parts: the statistics.
        attacked: what was found in them.

    Raises:
        InputError: see `files.writing`.
    """
    date = datetime.now().isoformat().replace(":", "-")
    saved = parts[0].about
    place = folder / model_folder(saved["model"])
    _samples(place, date, parts, attacked)
    results = place / f"results_{date}.json"
    write_atomically(results, _json(strict(_content(saved, attacked, date)), indent=2), _ELSE)
    return results


def _samples(place: Path, date: str, parts: Sequence[Part], attacked: Sequence[Attacked]) -> None:
    """All attacks' files in one pass over the texts, line by line; with several filters a pass for each."""
    with ExitStack() as stack:
        files = [stack.enter_context(whole_file(place / f"samples_{one.task}_{date}.jsonl", _ELSE)) for one in attacked]
        for number in range(max((len(one.scores.filters) for one in attacked), default=0)):
            chosen = [pair for pair in zip(attacked, files, strict=True) if number < len(pair[0].scores.filters)]
            for row, doc in enumerate(docs(parts)):
                for one, file in chosen:
                    sample = strict_sample(one.sample(row, one.scores.filters[number], doc))
                    file.write(_json(sample) + "\n")


def _content(saved: Mapping[str, Any], attacked: Sequence[Attacked], date: str) -> dict[str, Any]:
    return {
        "results": {one.task: {"alias": one.task, **_row(one)} for one in attacked},
        "group_subtasks": {},
        "configs": {one.task: {"task": one.task, "metadata": {"midistill": one.about}} for one in attacked},
        "versions": {one.task: 1.0 for one in attacked},
        "higher_is_better": {
            one.task: {name: _direction(name) for name in default_metrics(ATTACKS[one.about["attack"]])}
            for one in attacked
        },
        "config": {"model": "statistics", "model_args": {"pretrained": saved["model"]}},
        "model_name": saved["model"],
        "model_identity": saved.get("model_identity"),
        "date": date,
    }


def _json(content: Any, indent: int | None = None) -> str:
    return json.dumps(content, indent=indent, ensure_ascii=False, allow_nan=False)


def _row(attacked: Attacked) -> dict[str, float | str]:
    row: dict[str, float | str] = {}
    for filter_name, figures in attacked.figures.items():
        for metric, (value, error) in figures.items():
            row[f"{metric},{filter_name}"] = value
            row[f"{metric}_stderr,{filter_name}"] = "N/A" if math.isnan(error) else error
    return row


def _direction(metric: str) -> bool | None:
    return METRICS[metric].higher_is_better if metric in METRICS else None
