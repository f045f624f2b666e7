"""A user's own texts, wherever they are: files, folders, and data sets of the hub."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from midistill_tasks.errors import InputError, nearest
from midistill_tasks.splits import hub, readers

if TYPE_CHECKING:
    import datasets

Source = str | list[str] | dict[str, str]
"""A file (see `readers.read_file`), a folder that `datasets` reads, a glob or ``hf://datasets/owner/name/path``; a list
of these; or ``{"path": …, "name": …, "split": …, "revision": …}``, a data set as `datasets.load_dataset` calls it."""

FORMS = "a file (JSONL, CSV, Parquet, txt …), folder or glob, a list of these, or a hub data set"
"""For descriptions of options."""

_KEYS = ("path", "name", "split", "revision")
_INSTEAD = "give a file or folder on this machine"


def read_source(source: Source) -> Iterator[tuple[str, readers.Table]]:
    """The name of each file (folder, data set) for messages, and its columns; those of a glob in alphabetical order.

    Raises:
        InputError: one of them is not there or cannot be read, a glob matches nothing, or a folder or data set has
            several parts and none is chosen.
    """
    if isinstance(source, dict):
        _check_keys(source)
        yield source["path"], _columns(_data_set(**source))
        return
    for place in places(source):
        if place.startswith("hf://"):
            yield place, _of_hub(place)
        elif Path(place).expanduser().is_dir():
            yield place, _columns(_data_set(place))
        else:
            file = Path(place).expanduser()
            yield str(file), readers.read_file(file)


def read_texts(source: Source, column: str) -> list[str]:
    """The texts of all that `source` names.

    Raises:
        InputError: as of `read_source`; the column is missing, or a value is not a string.
    """
    return [text for where, table in read_source(source) for text in readers.pick_texts(table, column, where)]


def places(source: Source) -> list[str]:
    """Files, folders and addresses that a source names, as they are written there, with globs resolved.

    Raises:
        InputError: a glob matches nothing, or there is no place at all.
    """
    if isinstance(source, dict):
        return [source["path"]] if "path" in source else []
    found = [place for part in ([source] if isinstance(source, str) else source) for place in _resolved(part)]
    if not found:
        raise InputError("an empty list names no file of texts: name at least one")
    return found


def local_files(source: Source) -> list[str]:
    """Those of `places` that are, or should be, on this machine."""
    if isinstance(source, dict):
        return [place for place in places(source) if Path(place).expanduser().exists()]
    return [place for place in places(source) if not place.startswith("hf://")]


def _resolved(place: str) -> list[str]:
    if place.startswith("hf://") or not glob.has_magic(place) or Path(place).expanduser().exists():
        return [place]
    found = sorted(glob.glob(str(Path(place).expanduser()), recursive=True))
    if not found:
        raise InputError(f"no file matches '{place}'; check the pattern (relative ones start at {Path.cwd()})")
    return found


def _check_keys(source: dict[str, str]) -> None:
    for key in source:
        if key not in _KEYS:
            raise InputError(f"a data set has no key '{key}'{nearest(key, _KEYS)}; its keys: {', '.join(_KEYS)}")
    if "path" not in source:
        raise InputError(f"the data set {source} has no 'path'; add the hub's owner/name, or a folder")


def _data_set(
    path: str, name: str | None = None, split: str | None = None, revision: str | None = None
) -> datasets.Dataset:
    folder = Path(path).expanduser()
    if folder.is_dir():
        data = readers.read_folder(folder, name)
    else:
        data = hub.from_hub(path, name, instead=_INSTEAD, revision=revision)
    if split is None and isinstance(data, dict):
        if len(data) > 1:
            parts = f'its parts are {", ".join(data)}: choose one with {{"path": "{path}", "split": "…"}}'
            raise InputError(f"'{path}' is a data set of several parts; {parts}")
        split = next(iter(data))
    return readers.pick_part(data, split or "", path)


def _columns(data: datasets.Dataset) -> readers.Table:
    columns: dict[str, Any] = {name: data[name] for name in data.column_names}  # read when asked for
    return columns


def _of_hub(address: str) -> readers.Table:
    """What ``hf://datasets/owner/name@revision/path`` names: one file, or without a path the whole data set."""
    parts = _ADDRESS.fullmatch(address)
    if parts is None:
        raise InputError(f"'{address}' is no file of the hub; write hf://datasets/owner/name/path")
    repository, revision, path = parts["repository"], parts["revision"], parts["path"]
    revision = unquote(revision) if revision else None
    if not path:
        return _columns(_data_set(repository, revision=revision))
    return readers.read_file(hub.file_of_hub(repository, path, _INSTEAD, revision))


_ADDRESS = re.compile(r"hf://datasets/(?P<repository>[^/@]+/[^/@]+)(?:@(?P<revision>[^/]+))?(?:/(?P<path>.*))?")
