"""Bytes → columns, a function a format; what is not whole is refused with file, row and remedy."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from midistill_tasks.errors import InputError

Table = dict[str, list[Any]]
"""Column name → values, all columns of one length."""

COMPRESSED = {".gz": "gzip", ".zst": "zstd"}
"""Ending → Arrow's name of the codec."""


def read_json(path: Path, data: bytes) -> Table:
    """A list, or one value a line (blank lines are none): objects, or strings, which count as ``{"text": …}``.

    A key that an object lacks is None.
    """
    text = _decoded(path, data)
    listed = text.lstrip(" \t\r\n").startswith("[")
    rows: list[dict[str, Any]] = []
    for place, value in _parsed_list(path, text) if listed else _parsed_lines(path, text):
        row = {"text": value} if isinstance(value, str) else value
        if not isinstance(row, dict):
            raise InputError(f'{path}, {place}: expected an object such as {{"text": "…"}} or a string')
        rows.append(row)
    columns = dict.fromkeys(key for row in rows for key in row)
    return {key: [row.get(key) for row in rows] for key in columns}


def _parsed_list(path: Path, text: str) -> Iterator[tuple[str, Any]]:
    try:
        values = json.loads(text, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        raise InputError(f"{path}, line {error.lineno}: broken JSON ({error.msg}); correct the list") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: broken JSON ({error}); correct the list") from None
    escaped = _has_halves(text)
    for row, value in enumerate(values, 1):
        try:
            _storable(value, escaped)
        except UnicodeEncodeError as error:
            raise InputError(f"{path}, row {row}: {_half(error)}") from None
        yield f"row {row}", value


def _parsed_lines(path: Path, text: str) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(_lines(text), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line, object_pairs_hook=_object)
            _storable(value, _has_halves(line))
        except UnicodeEncodeError as error:
            raise InputError(f"{path}, line {number}: {_half(error)}") from None
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}, line {number}: broken JSON ({error}); correct or remove that line") from None
        yield f"line {number}", value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys differ: of two that are the same, `json` would drop the first without a word."""
    made = dict(pairs)
    if len(made) < len(pairs):
        twice = next(key for position, (key, _) in enumerate(pairs) if key in dict(pairs[:position]))
        raise ValueError(f"the key {twice!r} stands twice in an object")
    return made


def _has_halves(source: str) -> bool:
    """Whether there is an escape of a surrogate, which may lack its other half."""
    return "\\ud" in source.lower()


def _storable(value: Any, escaped: bool) -> None:
    """UnicodeEncodeError where a string holds half a surrogate pair, which only an escape can bring in."""
    if escaped:
        json.dumps(value, ensure_ascii=False).encode()


def _half(error: UnicodeEncodeError) -> str:
    half = ord(error.object[error.start])
    return f"half a surrogate pair (\\u{half:04x}) is no character and cannot be stored; remove it"


def read_csv(path: Path, data: bytes) -> Table:
    """Columns that the first row names, separated by commas, or by ``;`` or tabs where that row is; all values are str.

    A field that holds a separator, a quote or a line end stands in quotes; blank lines are no rows.
    """
    return _separated(path, _decoded(path, data), ",;\t")


def read_tsv(path: Path, data: bytes) -> Table:
    """As `read_csv`, separated by tabs."""
    return _separated(path, _decoded(path, data), "\t")


def _separated(path: Path, text: str, separators: str) -> Table:
    separator = next((mark for mark in separators if _divides_the_header(path, text, mark)), separators[0])
    rows = _rows(path, text, separator)
    _, names = next(rows, (0, []))
    columns: list[list[str]] = [[] for _ in names]
    for number, (line, fields) in enumerate(rows, 1):
        if len(fields) != len(names):
            found = f"{len(fields)} {'field' if len(fields) == 1 else 'fields'} for {len(names)}: {', '.join(names)}"
            raise InputError(f"{path}: broken CSV (row {number}, line {line}: {found}); {_quoting(separator)}")
        for column, field in zip(columns, fields, strict=True):
            column.append(field)
    if names and not names[0] and all(value.isdecimal() for value in columns[0]):
        names, columns = names[1:], columns[1:]  # the row numbers that pandas writes
    _check_names(path, names)
    return dict(zip(names, columns, strict=True))


def _divides_the_header(path: Path, text: str, separator: str) -> bool:
    try:
        _, names = next(_rows(path, text, separator), (0, []))
    except InputError:  # quotes that fit another separator
        return False
    return len(names) > 1


def _rows(path: Path, text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """The line in which a row begins, and its fields; without blank lines."""
    csv.field_size_limit(2**31 - 1)  # of the whole process; 131,072 by default, which is less than a book
    ends = "\n" if "\n" in text else ""  # a bare \r beside other line ends is refused where it stands unquoted
    reader = csv.reader(io.StringIO(text, newline=ends), delimiter=separator, strict=True)
    while True:
        begins = reader.line_num + 1
        try:
            fields = next(reader, None)
        except csv.Error as error:
            raise InputError(
                f"{path}: broken CSV (the row that begins in line {begins}: {error}, so a quote is not closed or not"
                f" doubled); {_quoting(separator)}"
            ) from None
        if fields is None:
            return
        if fields:
            yield begins, fields


def _quoting(separator: str) -> str:
    called = {",": "a comma", ";": "a semicolon", "\t": "a tab"}[separator]
    return f'put a text that holds {called}, a quote or a line end in quotes, and double those in it: "say ""yes"""'


def _check_names(path: Path, names: list[str]) -> None:
    if not names:
        raise InputError(f"{path}: broken CSV (it is empty); the first row names the columns, such as text")
    for position, name in enumerate(names, 1):
        if not name.strip():
            raise InputError(f"{path}: broken CSV (column {position} has no name); name it in the first row")
    _check_unique(path, names)


def _check_unique(path: Path, names: Iterable[str]) -> None:
    seen = set()
    for name in names:
        if name in seen:
            raise InputError(f"{path}: two columns are named '{name}'; rename one of them")
        seen.add(name)


def read_txt(path: Path, data: bytes) -> Table:
    """One text a line, column ``text``."""
    return {"text": _lines(_decoded(path, data))}


def read_parquet(path: Path, data: bytes) -> Table:
    import pyarrow.parquet  # type: ignore[import-untyped, unused-ignore]

    return _columnar(path, "Parquet", lambda: pyarrow.parquet.ParquetFile(pyarrow.BufferReader(data)).read())


def read_arrow(path: Path, data: bytes) -> Table:
    """An Arrow file, or the stream that `datasets` writes."""
    import pyarrow.ipc  # type: ignore[import-untyped, unused-ignore]

    opened = pyarrow.ipc.open_file if data.startswith(b"ARROW1") else pyarrow.ipc.open_stream
    return _columnar(path, "Arrow", lambda: opened(pyarrow.BufferReader(data)).read_all())


def _columnar(path: Path, kind: str, read: Callable[[], Any]) -> Table:
    import pyarrow  # type: ignore[import-untyped, unused-ignore]

    try:
        table = read()
        table.validate(full=True)  # or a damaged file would end the process
        _check_unique(path, table.column_names)
        made: Table = table.to_pydict()
    except InputError:
        raise
    except (pyarrow.lib.ArrowException, OSError, ValueError, TypeError) as error:
        raise InputError(f"{path}: broken {kind} ({error}); write the file again") from None
    return made


def decompress(path: Path, codec: str) -> bytes:
    """What a gzip or Zstandard file holds, checked against its own checksums."""
    import pyarrow  # type: ignore[import-untyped, unused-ignore]

    try:
        with pyarrow.input_stream(str(path), compression=codec) as stream:
            content: bytes = stream.read()
    except OSError as error:
        raise InputError(f"{path} cannot be decompressed ({error}); write or download the file again") from None
    return content


def _decoded(path: Path, data: bytes) -> str:
    """UTF-8 → text, without a byte-order mark."""
    wide = next((name for mark, name in _MARKS if data.startswith(mark)), None)
    if wide:
        raise InputError(f"{path} is {wide}, not UTF-8; convert the file with: {_iconv(path, wide)}")
    zero = data.find(b"\0")
    if zero >= 0:
        raise InputError(
            f"{path}, line {data.count(10, 0, zero) + 1}: byte {zero} is zero, as in UTF-16 and in no text in UTF-8;"
            f" convert the file with: {_iconv(path, 'UTF-16LE' if zero % 2 else 'UTF-16BE')}"
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        bad = data.count(b"\n", 0, error.start) + 1
        # Bytes that are typographic quotes and dashes there, and control characters in ISO-8859-1.
        encoding = "WINDOWS-1252" if re.search(rb"[\x80-\x9f]", data) else "ISO-8859-1"
        raise InputError(
            f"{path}, line {bad}: byte {error.start} (0x{data[error.start]:02x}) is not UTF-8; convert the file with:"
            f" {_iconv(path, encoding)}"
        ) from None


_MARKS = ((b"\xff\xfe\0\0", "UTF-32"), (b"\0\0\xfe\xff", "UTF-32"), (b"\xff\xfe", "UTF-16"), (b"\xfe\xff", "UTF-16"))


def _iconv(path: Path, encoding: str) -> str:
    name = path.stem if path.suffix.lower() in COMPRESSED else path.name
    out = shlex.quote(f"{Path(name).stem}-utf8{Path(name).suffix}")
    if name == path.name:
        return f"iconv -f {encoding} -t UTF-8 {shlex.quote(str(path))} > {out}"
    unpack = {".gz": "gzip", ".zst": "zstd"}[path.suffix.lower()]
    return f"{unpack} -dc {shlex.quote(str(path))} | iconv -f {encoding} -t UTF-8 > {out}"


def _lines(text: str) -> list[str]:
    r"""Only ``\n`` and ``\r\n`` end a line, or ``\r`` where a text has no other: texts may hold U+2028 and the like."""
    if not text:
        return []
    end = "\n" if "\n" in text else "\r"
    return [line.removesuffix("\r") for line in text.removesuffix(end).split(end)]
