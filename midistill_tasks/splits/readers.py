"""Texts on this machine: files of four formats, folders, and what went wrong in them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from midistill_tasks.errors import InputError, nearest

if TYPE_CHECKING:
    import datasets

Table = dict[str, list[Any]]
"""Column name → values, all columns of one length."""


def read_file(path: Path) -> Table:
    """Reads a ``.jsonl``, ``.csv``, ``.parquet`` or ``.txt`` file (UTF-8, with or without a byte-order mark).

    JSONL: one object a line, or a bare string, which counts as ``{"text": …}``; blank lines are skipped, a key that a
    row lacks is None. CSV: the first row names the columns, all values are str. txt: one text a line, column ``text``.

    Raises:
        InputError: no such file, another ending, bytes that are not UTF-8, broken JSON or CSV or Parquet.
    """
    if not path.is_file():
        raise InputError(f"there is no file '{path}'; check the path (relative ones start at {Path.cwd()})")
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"'{path}' ends in '{path.suffix}'; files of texts end in {', '.join(_READERS)}")
    return reader(path)


def pick_column(table: Table, name: str, where: str) -> list[Any]:
    if name not in table:
        known = ", ".join(table) or "none: it is empty"
        raise InputError(f"{where} has no column '{name}'{nearest(name, table)}; its columns: {known}")
    return table[name]


def pick_texts(table: Table, column: str, where: str) -> list[str]:
    """A column in which every value must be a str; rows are counted from 1."""
    values = pick_column(table, column, where)
    for row, value in enumerate(values, 1):
        if not isinstance(value, str):
            raise InputError(f"{where}, row {row}: '{column}' is {value!r}, not a string; correct or remove that row")
    return values


def to_dataset(table: Table, where: str) -> datasets.Dataset:
    """The table as a `datasets.Dataset`, or an InputError that names the row whose value is of another type."""
    import datasets

    try:
        return datasets.Dataset.from_dict(table)
    except (ValueError, TypeError, OverflowError) as error:  # Arrow's own errors derive from these
        raise InputError(f"{where}{_odd_value(table)}; give a column one type ({error})") from None


def read_folder(folder: Path, name: str | None = None) -> datasets.Dataset | datasets.DatasetDict:
    """A folder written by ``save_to_disk``, or one that ``load_dataset`` reads (a clone of a hub repository, files
    named train, validation, test …), where `name` chooses a configuration or the sub-folder of that name.

    Raises:
        InputError: it is not a folder, or `datasets` cannot read it.
    """
    import datasets

    if not folder.is_dir():
        raise InputError(f"there is no folder '{folder}'")
    try:
        if is_saved_table(folder) or (folder / "dataset_dict.json").is_file():
            return datasets.load_from_disk(str(folder))
        if name and (folder / name).is_dir():
            folder, name = folder / name, None
        names = datasets.get_dataset_config_names(str(folder))
        return datasets.load_dataset(str(folder), name if name in names else None)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise InputError(f"the folder '{folder}' cannot be read as a data set: {reason(error)}") from error


def is_saved_table(folder: Path) -> bool:
    """Whether ``Dataset.save_to_disk`` wrote this folder."""
    return (folder / "state.json").is_file()


def pick_part(data: Any, part: str, where: str) -> datasets.Dataset:
    """One part (train, test …) of a DatasetDict; a single Dataset is taken as it is."""
    import datasets

    if isinstance(data, datasets.Dataset):
        return data
    if part not in data:
        raise InputError(f"{where} has no part '{part}'{nearest(part, data)}; its parts: {', '.join(data)}")
    return data[part]


def _read_jsonl(path: Path) -> Table:
    rows: list[dict[str, Any]] = []
    for number, line in _lines(path):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise InputError(f"{path}, line {number}: broken JSON ({error}); correct or remove that line") from None
        row = {"text": row} if isinstance(row, str) else row
        if not isinstance(row, dict):
            raise InputError(f'{path}, line {number}: expected an object such as {{"text": "…"}} or a string')
        rows.append(row)
    columns = dict.fromkeys(key for row in rows for key in row)
    return {key: [row.get(key) for row in rows] for key in columns}


def _read_csv(path: Path) -> Table:
    import pandas as pd  # type: ignore[import-untyped, unused-ignore]

    for _ in _lines(path):  # pandas does not say where a byte is not UTF-8
        pass
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise InputError(f"{path}: broken CSV ({str(error).strip()}); quote texts that hold commas or quotes") from None
    return {str(name): list(values) for name, values in frame.items()}


def _read_parquet(path: Path) -> Table:
    import pyarrow.parquet  # type: ignore[import-untyped, unused-ignore]

    try:
        table: Table = pyarrow.parquet.read_table(path).to_pydict()
    except pyarrow.lib.ArrowException as error:
        raise InputError(f"{path}: broken Parquet ({error}); write the file again") from None
    return table


def _read_txt(path: Path) -> Table:
    return {"text": [line for _, line in _lines(path)]}


_READERS: dict[str, Callable[[Path], Table]] = {
    ".jsonl": _read_jsonl,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
    ".txt": _read_txt,
}
ENDINGS = tuple(_READERS)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines with their numbers, from 1. Only ``\\n`` ends one: texts may hold U+2028, form feeds and the like."""
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        bad = data.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path}, line {bad}: byte {error.start} (0x{data[error.start]:02x}) is not UTF-8; convert the file with:"
            f" iconv -f ISO-8859-1 -t UTF-8 '{path}' > '{path.stem}-utf8{path.suffix}'"
        ) from None
    for number, line in enumerate(text.removesuffix("\n").split("\n"), 1):
        yield number, line.removesuffix("\r")


def _odd_value(table: Table) -> str:
    """``", row 7: 'label' is '1', …"`` for the first value that differs in type from the first one of its column."""
    for name, values in table.items():
        first = next((value for value in values if value is not None), None)
        for row, value in enumerate(values, 1):
            if value is not None and type(value) is not type(first):
                return f", row {row}: '{name}' is {value!r}, where rows before it hold values such as {first!r}"
    return ": a value cannot be stored"


def reason(error: BaseException) -> str:
    """The innermost error in one line: `datasets` wraps the informative one."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
