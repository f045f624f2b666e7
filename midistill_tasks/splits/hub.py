"""Data sets of the hub, and what to say where it cannot be reached."""

from __future__ import annotations

from itertools import islice
from typing import Any

from midistill_tasks.errors import InputError
from midistill_tasks.splits.readers import reason


def from_hub(path: str, name: str | None = None, **options: Any) -> Any:
    """``datasets.load_dataset``, whose failure says how to do without the hub.

    Raises:
        InputError: the data set cannot be loaded.
    """
    import datasets

    try:
        return datasets.load_dataset(path, name, **options)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise _not_loaded(path, error) from error


def first_of_hub(path: str, part: str, count: int) -> list[dict[str, Any]]:
    """The first `count` rows of a part, streamed: no more is downloaded.

    Raises:
        InputError: the data set cannot be loaded, or the network fails on the way.
    """
    rows = from_hub(path, split=part, streaming=True)
    try:
        return list(islice(rows, count))
    except Exception as error:  # each of the libraries below (fsspec, aiohttp, httpx, pyarrow) has its own
        raise _not_loaded(path, error) from error


def _not_loaded(path: str, error: Exception) -> InputError:
    return InputError(
        f"'{path}' could not be loaded ({reason(error)}); on a machine without a network give a local copy with"
        ' --metadata \'{"mia": {"dataset_path": "FILE or FOLDER"}}\''
    )
