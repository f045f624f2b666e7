"""Texts on this machine: files, folders, and what went wrong in them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from midistill_tasks.errors import InputError, nearest
from midistill_tasks.splits import formats

if TYPE_CHECKING:
    import datasets

Table = formats.Table


def read_file(path: Path) -> Table:
    """Reads a file of texts in UTF-8, with or without a byte-order mark, by its ending.

    ``.jsonl``, ``.ndjson`` and ``.json``: a list, or one value a line, of objects, or of strings, which count as
    ``{"text": …}``. ``.csv`` and ``.tsv``: the first row names the columns, all values are str. ``.txt``: one text a
    line, column ``text``. Each of these also as ``.gz`` or ``.zst``. ``.parquet`` and ``.arrow``.

    Raises:
        InputError: no such file, another ending, bytes that are not UTF-8, a file that is broken or ambiguous.
    """
    if not path.is_file():
        raise InputError(f"there is no file '{path}'; check the path (relative ones start at {Path.cwd()})")
    codec = formats.COMPRESSED.get(path.suffix.lower())
    ending = Path(path.stem).suffix.lower() if codec else path.suffix.lower()
    if ending not in _READERS or (codec and ending in _BINARY):
        raise InputError(
            f"'{path}' ends in '{ending if codec else ''}{path.suffix}'; files of texts end in {', '.join(_READERS)},"
            f" and all but {' and '.join(_BINARY)} may be compressed (.gz, .zst)"
        )
    try:
        return _READERS[ending](path, formats.decompress(path, codec) if codec else path.read_bytes())
    except OSError as error:
        raise InputError(f"'{path}' cannot be read ({reason(error)}); check its permissions") from None


_READERS: dict[str, Callable[[Path, bytes], Table]] = {
    ".jsonl": formats.read_json,
    ".csv": formats.read_csv,
    ".parquet": formats.read_parquet,
    ".txt": formats.read_txt,
    ".ndjson": formats.read_json,
    ".json": formats.read_json,
    ".tsv": formats.read_tsv,
    ".arrow": formats.read_arrow,
}
_BINARY = (".parquet", ".arrow")
ENDINGS = (
    *_READERS,
    *(f"{ending}{codec}" for ending in _READERS if ending not in _BINARY for codec in (".gz", ".zst")),
)


def pick_column(table: Table, name: str, where: str) -> list[Any]:
    if name not in table:
        known = ", ".join(table) or "none: it is empty"
        raise InputError(f"{where} has no column '{name}'{nearest(name, table)}; its columns: {known}")
    return list(table[name])


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
    """One part (train, test …) of a DatasetDict; a single Dataset is taken as it is.

    Raises:
        InputError: there is no such part, or it is a CSV file whose first column `datasets` took for row numbers.
    """
    import datasets

    if not isinstance(data, datasets.Dataset):
        if part not in data:
            raise InputError(f"{where} has no part '{part}'{nearest(part, data)}; its parts: {', '.join(data)}")
        data = data[part]
    if data.info.builder_name == "csv" and "__index_level_0__" in data.column_names:  # pandas does so
        raise InputError(
            f"{where} is CSV whose rows have more fields than its header; put texts that hold a comma in quotes"
        )
    return data


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
