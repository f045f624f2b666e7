"""From a task's YAML keys and options to the documents that it scores."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any
from weakref import WeakValueDictionary

import datasets
from jinja2 import UndefinedError
from lm_eval.api.task import ConfigurableTask

from midistill_tasks.errors import InputError, nearest
from midistill_tasks.harness.options import MIAOptions
from midistill_tasks.splits import Split
from midistill_tasks.splits.documents import Prepared, prepare
from midistill_tasks.splits.readers import to_dataset
from midistill_tasks.splits.rows import load_split

_DATA_KEYS = ("dataset_path", "dataset_name", "dataset_kwargs", "test_split")
_ROW_KEYS = ("process_docs", "doc_to_text", "doc_to_target")

_prepared: WeakValueDictionary[str, Prepared] = WeakValueDictionary()
"""For as long as a task of the run holds them: six attacks on a split load it once."""


def documents(task: ConfigurableTask, split: Split | None, options: MIAOptions, name: str) -> Prepared:
    """The documents of a task, loaded and prepared once for all tasks of a run with the same keys and options.

    Args:
        task: read here: its ``config``; its ``features`` and ``prompt`` are set, which the harness's own reading of
            ``doc_to_text`` and ``doc_to_target`` needs.
        split: one of `SPLITS`, or None where the YAML says by the harness's keys where texts and labels are.
        options: of the run.
        name: of the split, for messages.

    Raises:
        InputError: the data cannot be found or read, or is not what `prepare` needs.
    """
    data = [name, *(task.config[key] for key in (*_DATA_KEYS, *_ROW_KEYS)), options.model_dump()]
    key = json.dumps(data, default=repr, sort_keys=True)
    prepared = _prepared.get(key)
    if prepared is None:
        prepared = _prepared[key] = prepare(_rows(task, split, options, name), options, name)
    return prepared


def _rows(task: ConfigurableTask, split: Split | None, options: MIAOptions, name: str) -> datasets.Dataset:
    """Columns text, label and perhaps cluster, from the split's loader or by the harness's own keys."""
    rows = load_split(split, {key: task.config[key] for key in _DATA_KEYS}, options)
    if split is not None and split.load is not None:
        return rows
    if task.config.process_docs is not None:
        rows = task.config.process_docs(rows)
    task.features, task.prompt = list(rows.features), None
    columns: dict[str, list[Any]] = {
        "text": list(_column(task, rows, "doc_to_text", name)),
        "label": list(_column(task, rows, "doc_to_target", name)),
    }
    if "cluster" in task.features:
        columns["cluster"] = [str(cluster) for cluster in rows["cluster"]]
    return to_dataset(columns, name)


def _column(task: ConfigurableTask, rows: datasets.Dataset, key: str, name: str) -> Iterator[Any]:
    """What the YAML's `key` (a column, a template or a function) makes of each row."""
    _check_key(key, task.config[key], task.features)
    read = getattr(ConfigurableTask, key)
    for number, row in enumerate(rows, 1):
        try:
            yield read(task, row)
        except UndefinedError as error:
            columns = ", ".join(task.features)
            raise InputError(f"{name}, row {number}: {key}: {error}; columns: {columns}") from None


def _check_key(key: str, value: Any, columns: Sequence[str]) -> None:
    """A bare word that is no column would be rendered as a template: the same text for every row."""
    if value is None:
        raise InputError(f"the task's YAML has no '{key}'; name a column: {', '.join(columns)}")
    if isinstance(value, str) and "{" not in value and value not in columns:
        raise InputError(f"{key}: there is no column '{value}'{nearest(value, columns)}; columns: {', '.join(columns)}")
