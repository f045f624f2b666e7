"""The documents of a task: `splits.documents`, with rows read as the harness's own YAML keys say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import datasets
from jinja2 import UndefinedError
from lm_eval.api.task import ConfigurableTask

from midistill_tasks.errors import InputError, nearest
from midistill_tasks.harness.keys import TaskKeys
from midistill_tasks.splits.documents import DATA_KEYS, ROW_KEYS, Documents, documents
from midistill_tasks.splits.readers import to_dataset
from midistill_tasks.splits.shards import Shard


def task_documents(task: ConfigurableTask, keys: TaskKeys) -> Documents:
    """The documents of a task, loaded and prepared once for all tasks of a run with the same keys and options.

    Args:
        task: read here: its ``config``; its ``features`` and ``prompt`` are set, which the harness's own reading of
            ``doc_to_text`` and ``doc_to_target`` needs.
        keys: read here: split and options.

    Raises:
        InputError: the data cannot be found or read, or is not what `documents` needs.
    """
    config = {key: task.config[key] for key in (*DATA_KEYS, *ROW_KEYS)}
    columns = lambda rows: _columns(task, rows, keys.split_name)  # noqa: E731
    return documents(keys.split, keys.options.of_split(keys.split), keys.split_name, config, columns)


_parts: WeakKeyDictionary[Documents, tuple[Shard, datasets.Dataset]] = WeakKeyDictionary()
"""The shard that was cut last: all attacks of a run are on the same one."""


def judged_docs(documents: Documents, shard: Shard | None) -> datasets.Dataset:
    """What a run judges: all documents, or a shard of them, with the column ``place``, each one's among all.

    Raises:
        InputError: there are fewer documents than shards.
    """
    if shard is None:
        return documents.docs
    known = _parts.get(documents)
    if known is None or known[0] != shard:
        places = shard.places(documents.docs["cluster"][:])
        known = _parts[documents] = shard, documents.docs.select(places).add_column("place", places)
    return known[1]


def _columns(task: ConfigurableTask, rows: datasets.Dataset, name: str) -> datasets.Dataset:
    """Columns text, label and perhaps cluster, by the harness's own keys."""
    if task.config.process_docs is not None:
        rows = task.config.process_docs(rows)
    task.features, task.prompt = list(rows.features), None
    columns: dict[str, list[Any]] = {
        "text": list(_column(task, rows, "doc_to_text", name)),
        "label": list(_column(task, rows, "doc_to_target", name)),
    }
    if "cluster" in task.features:
        columns["cluster"] = ["" if cluster is None else str(cluster) for cluster in rows["cluster"]]
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
