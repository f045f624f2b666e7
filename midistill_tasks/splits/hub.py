"""Data sets of the hub, and what to say where it cannot be reached."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from itertools import islice
from pathlib import Path
from typing import Any

from midistill_tasks.downloads import remedy
from midistill_tasks.errors import InputError
from midistill_tasks.splits.readers import reason

_COPY = 'give a local copy with --metadata \'{"mia": {"dataset_path": "FILE or FOLDER"}}\''


_COMMIT = re.compile("[0-9a-f]{40}")
_noted: ContextVar[dict[str, str] | None] = ContextVar("noted", default=None)


@contextmanager
def commits() -> Iterator[dict[str, str]]:
    """Data set → commit, of all that is read of the hub within the block, from its cache too."""
    found: dict[str, str] = {}
    before = _noted.set(found)
    try:
        yield found
    finally:
        _noted.reset(before)


def _note(name: str, commits: Iterable[str | None]) -> None:
    found = _noted.get()
    if found is not None:
        found.update((name, commit) for commit in commits if commit and _COMMIT.fullmatch(commit))


def _folders(found: Any) -> list[str]:
    """Of the cache of a data set that was prepared; one of them is named by the commit."""
    parts = found.values() if isinstance(found, dict) else [found]
    return [folder for part in parts for file in part.cache_files for folder in Path(file["filename"]).parts]


def from_hub(path: str, name: str | None = None, instead: str = _COPY, **options: Any) -> Any:
    """``datasets.load_dataset``, whose failure says by `instead` how to do without the hub.

    Raises:
        InputError: the data set cannot be loaded.
    """
    import datasets

    try:
        found = datasets.load_dataset(path, name, **options)
        if not options.get("streaming"):
            _note(path, _folders(found))
        return found
    except Exception as error:  # each of the libraries below (fsspec, httpx, pyarrow) has its own
        raise _not_loaded(path, error, instead) from error


def first_of_hub(path: str, part: str, count: int, revision: str | None = None) -> list[dict[str, Any]]:
    """The first `count` rows of a part, streamed: no more is downloaded.

    Raises:
        InputError: the data set cannot be loaded, or the network fails on the way.
    """
    import huggingface_hub

    pinned = {} if revision is None else {"revision": revision}
    rows = from_hub(path, split=part, streaming=True, **pinned)
    try:
        with suppress(Exception):  # a local folder, or a cache without the hub: then no commit is known
            _note(path, [huggingface_hub.dataset_info(path, revision=revision, timeout=10).sha])
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
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    pinned: dict[str, Any] = {} if revision is None else {"revision": revision}
    try:
        found = Path(huggingface_hub.hf_hub_download(repository, name, repo_type="dataset", **pinned))
        _note(repository, found.parts)
        return found
    except LocalEntryNotFoundError:
        raise InputError(f"the hub cannot be reached and '{repository}' is not in its cache; {instead}") from None
    except EntryNotFoundError:
        raise InputError(f"'{repository}' has no file '{name}'; {missing}") from None
    except Exception as error:
        if why := remedy(error, repository, "datasets/"):
            raise InputError(f"'{repository}' {why}; or {instead}") from error
        raise InputError(f"'{name}' of '{repository}' could not be downloaded ({reason(error)}); {instead}") from error


def _not_loaded(path: str, error: Exception, instead: str) -> InputError:
    if why := remedy(error, path, "datasets/"):
        return InputError(f"'{path}' {why}; or {instead}")
    return InputError(f"'{path}' could not be loaded ({reason(error)}); on a machine without a network {instead}")
