"""From a split, the harness's keys and a local copy to rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from midistill_tasks.errors import InputError, nearest
from midistill_tasks.splits import SPLITS, Split, hub, readers
from midistill_tasks.splits.options import TextOptions

if TYPE_CHECKING:
    import datasets


def load_split(split: Split | None, config: Mapping[str, Any], options: TextOptions) -> datasets.Dataset:
    """The rows of a split, in its own order, before any cleaning, balancing or sampling.

    Args:
        split: one of `SPLITS`, or None for a task that a user wrote with the harness's keys alone.
        config: the task's keys; read here: ``dataset_path``, ``dataset_name``, ``dataset_kwargs``, ``test_split``.
        options: read here: ``dataset_path`` (the local copy) and what the split's loader reads.

    Returns:
        From a loader: columns ``text``, ``label`` and perhaps ``cluster``. From the harness's keys: the raw rows of
        ``test_split``, to which the caller applies ``process_docs``, ``doc_to_text`` and ``doc_to_target``. From a
        local copy that is a single table (a file, or a ``save_to_disk`` folder of one Dataset): that table as it is,
        which must hold ``text`` and ``label`` where the split has a loader, and raw rows otherwise.

    Raises:
        InputError: the data cannot be found or read; the message says what to give instead.
    """
    copy = None if split and not split.downloads else local_copy(split.name if split else None, options)
    if copy is not None and copy.is_file():
        return readers.to_dataset(readers.read_file(copy), str(copy))
    if copy is not None and readers.is_saved_table(copy):
        return readers.read_folder(copy)
    if split is not None and split.loader is not None:
        return split.load(options, copy)
    return _rows_of_config(config, copy, options.dataset_revision)


def local_copy(name: str | None, options: TextOptions) -> Path | None:
    """The local copy of split `name` that the option ``dataset_path`` gives: a path, or a map from split to path.

    A folder may hold a file named like the split (``wikimia_64.jsonl``); then the copy is that file.
    """
    path = options.dataset_path
    if isinstance(path, dict):
        for key in path:
            if key not in SPLITS:
                known = ", ".join(SPLITS)
                raise InputError(f"dataset_path: '{key}' is no split{nearest(key, SPLITS)}; splits: {known}")
        path = path.get(name) if name else None
    if path is None:
        return None
    copy = Path(path).expanduser()
    if not copy.exists():
        raise InputError(f"dataset_path: there is no file or folder '{copy}'; check the path")
    files = [copy / f"{name}{ending}" for ending in readers.ENDINGS]
    return next((file for file in files if file.is_file()), copy)


def _rows_of_config(config: Mapping[str, Any], copy: Path | None, revision: str | None) -> datasets.Dataset:
    path, name = config.get("dataset_path"), config.get("dataset_name")
    part = config.get("test_split")
    if not part:
        raise InputError("the task's YAML has no 'test_split'; add the part of the data set that holds the texts")
    if copy is not None:
        return readers.pick_part(readers.read_folder(copy, name), part, str(copy))
    if not path:
        raise InputError("the task's YAML has no 'dataset_path'; add a hub name, or 'json' with dataset_kwargs")
    kwargs = {key: value for key, value in (config.get("dataset_kwargs") or {}).items() if key != "trust_remote_code"}
    kwargs |= {} if revision is None else {"revision": revision}
    return readers.pick_part(hub.from_hub(path, name, **kwargs), part, path)
