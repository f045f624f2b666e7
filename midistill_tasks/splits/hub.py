"""Data sets of the hub, and what to say where it cannot be reached."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

from midistill_tasks.errors import InputError
from midistill_tasks.splits.readers import reason

_COPY = 'give a local copy with --metadata \'{"mia": {"dataset_path": "FILE or FOLDER"}}\''


def from_hub(path: str, name: str | None = None, instead: str = _COPY, **options: Any) -> Any:
    """``datasets.load_dataset``, whose failure says by `instead` how to do without the hub.

    Raises:
        InputError: the data set cannot be loaded.
    """
    import datasets

    try:
        return datasets.load_dataset(path, name, **options)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise _not_loaded(path, error, instead) from error


def first_of_hub(path: str, part: str, count: int) -> list[dict[str, Any]]:
    """The first `count` rows of a part, streamed: no more is downloaded.

    Raises:
        InputError: the data set cannot be loaded, or the network fails on the way.
    """
    rows = from_hub(path, split=part, streaming=True)
    try:
        return list(islice(rows, count))
    except Exception as error:  # each of the libraries below (fsspec, aiohttp, httpx, pyarrow) has its own
        raise _not_loaded(path, error, _COPY) from error


def file_of_hub(
    repository: str, name: str, instead: str, revision: str | None = None, missing: str = "check its path"
) -> Path:
    """One file of a data set's repository, from the hub or its cache.

    Args:
        repository: owner/name.
        name: the path of the file in it.
        instead: how to do without the hub.
        revision: branch, tag or commit; the main branch by default.
        missing: what to do where there is no such file.

    Raises:
        InputError: the hub cannot be reached, gives no access, or has no such file.
    """
    import huggingface_hub
    from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, LocalEntryNotFoundError

    pinned: dict[str, Any] = {} if revision is None else {"revision": revision}
    try:
        return Path(huggingface_hub.hf_hub_download(repository, name, repo_type="dataset", **pinned))
    except GatedRepoError:
        raise InputError(
            f"'{repository}' is gated: accept its terms at https://huggingface.co/datasets/{repository} and log in with"
            f" `hf auth login` (or set HF_TOKEN); or {instead}"
        ) from None
    except LocalEntryNotFoundError:
        raise InputError(f"the hub cannot be reached and '{repository}' is not in its cache; {instead}") from None
    except EntryNotFoundError:
        raise InputError(f"'{repository}' has no file '{name}'; {missing}") from None
    except (OSError, ValueError) as error:
        raise InputError(f"'{name}' of '{repository}' could not be downloaded ({error}); {instead}") from error


def _not_loaded(path: str, error: Exception, instead: str) -> InputError:
    return InputError(f"'{path}' could not be loaded ({reason(error)}); on a machine without a network {instead}")
