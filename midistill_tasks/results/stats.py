"""Statistics of tokens on disk: one Parquet file a model and split, which attacks read again without the model."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from midistill_tasks.errors import InputError
from midistill_tasks.files import write_atomically
from midistill_tasks.views import TokenStats, Unscored

if TYPE_CHECKING:
    import pandas as pd

_ABOUT = b"midistill"
_ARRAYS = {"logprob": "<f4", "mean": "<f4", "std": "<f4", "greedy": "?", "tokens": "<i8", "frequency": "<f4"}


def load_stats(place: str | Path) -> pd.DataFrame:
    """The statistics that a run wrote with ``{"mia": {"save_stats": FOLDER}}``, of one model on one split.

    One row for each text and view; n is the number of scored tokens.

    - ``id`` (first 16 hex digits of the text's SHA-256), ``label`` (1 member, 0 non-member), ``cluster`` (the document
      it came from), ``view`` (text, reference, after_shots, …), ``group`` (of canaries: their repeats, else None);
    - ``logprob`` float32 [n], log p(x_t | x_<t) in nats; ``mean`` and ``std`` float32 [n], of log p(v) under p;
      ``greedy`` bool [n], whether the token was the arg-max; ``tokens`` int64 [n]; ``ends`` [n], the character at which
      each ends; ``frequency`` float32 [n] and, of one view, ``gradient`` float32 [9], see `TokenStats`. None where
      backend or run did not give it;
    - ``n_chars``, how many characters were scored, ``truncated``, whether the model cut the text, ``text``, what was
      scored (None where ``log_text`` was false), ``unscored``, why there is no figure, or None.

    ``.attrs["midistill"]`` says how they came about: model, split, options, hashes of data and model, versions.

    Raises:
        InputError: the place holds no such file, or those of several models or splits.
    """
    tables = load_all(place)
    if len(tables) > 1:
        names = ", ".join(f"{about['model']}/{about['split']}" for about in map(about_of, tables))
        raise InputError(f"{place} holds the statistics of {len(tables)} models and splits ({names}): name one file")
    return tables[0]


def load_all(place: str | Path) -> list[pd.DataFrame]:
    """As `load_stats`, a table for each model and split under a folder; the parts of several ranks are one.

    Raises:
        InputError: there is none, or a file is none of ours.
    """
    import pandas as pd

    path = Path(place).expanduser()
    files = [path] if path.is_file() else sorted(path.rglob("*.parquet"))
    if not files:
        raise InputError(
            f'{place} holds no statistics: run lm_eval with --metadata \'{{"mia": {{"save_stats": "FOLDER"}}}}\''
        )
    parts: dict[tuple[str, str, str], list[pd.DataFrame]] = {}
    for file in files:
        table = _read(file)
        about = about_of(table)
        parts.setdefault((str(file.parent), about["model"], about["split"]), []).append(table)
    tables = []
    for several in parts.values():
        ranks = about_of(several[0])["ranks"]
        if len(several) != ranks:
            raise InputError(f"{place}: of {ranks} ranks' parts {len(several)} are there: keep them together")
        whole = pd.concat(several, ignore_index=True) if len(several) > 1 else several[0]
        whole.attrs = several[0].attrs
        tables.append(whole)
    return tables


def about_of(table: pd.DataFrame) -> dict[str, Any]:
    """How the figures of a table came about."""
    about: dict[str, Any] = table.attrs["midistill"]
    return about


def _read(path: Path) -> pd.DataFrame:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.read_table(path)
        about = json.loads(table.schema.metadata[_ABOUT])
        found = table.to_pandas()
    except (OSError, KeyError, TypeError, ValueError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path} is no file of statistics that midistill wrote ({reason})") from None
    found.attrs = {"midistill": about}
    return found


def model_folder(model: object) -> str:
    """The name of a folder for a model of this name."""
    return re.sub(r"[^\w.-]+", "__", str(model))


def statistics(row: Mapping[str, Any]) -> TokenStats | Unscored:
    """A row of the table, as attacks take it."""
    if row["unscored"] is not None:
        return Unscored(row["unscored"])
    arrays: dict[str, Any] = {
        name: None if row[name] is None else np.asarray(row[name], dtype=kind) for name, kind in _ARRAYS.items()
    }
    ends = row["ends"]
    return TokenStats(
        arrays.pop("logprob"),
        **arrays,
        words=row["text"],
        n_chars=int(row["n_chars"]),
        truncated=bool(row["truncated"]),
        gradient=None if row.get("gradient") is None else np.asarray(row["gradient"], dtype="<f4").reshape(3, 3),
        ends=lambda: ends.tolist(),
    )


def row_of(doc: Mapping[str, Any], view: str, answer: TokenStats | Unscored, with_text: bool) -> dict[str, Any]:
    """The row of a document (id, label, cluster) in a view."""
    row: dict[str, Any] = {"id": doc["id"], "label": doc["label"], "cluster": doc["cluster"], "view": view}
    row["group"] = doc.get("group")
    if isinstance(answer, Unscored):
        return row | {"n_chars": 0, "truncated": False, "unscored": answer.reason}
    has = answer.has
    return row | {
        "logprob": answer.logprob,
        "mean": answer.mean if "moments" in has else None,
        "std": answer.std if "moments" in has else None,
        "greedy": answer.greedy if "greedy" in has else None,
        "tokens": answer.tokens,
        "ends": np.asarray(answer.ends, dtype=np.int32),
        "frequency": answer.frequency if "frequency" in has else None,
        "gradient": answer.gradient.ravel() if "gradient" in has else None,
        "n_chars": answer.n_chars,
        "truncated": answer.truncated,
        "text": answer.words if with_text else None,
    }


def frame(rows: Iterable[Mapping[str, Any]], about: Mapping[str, Any]) -> pd.DataFrame:
    """The table of `load_stats`, of rows that were never written."""
    found = _table(rows, about).to_pandas()
    found.attrs = {"midistill": dict(about)}
    return found


def write(path: Path, rows: Iterable[Mapping[str, Any]], about: Mapping[str, Any]) -> None:
    """Writes the file, whole or not at all.

    Raises:
        InputError: see `files.writing`.
    """
    from pyarrow import parquet

    content = io.BytesIO()
    parquet.write_table(_table(rows, about), content, compression="zstd")
    write_atomically(path, content.getvalue(), ", such as another save_stats")


def _table(rows: Iterable[Mapping[str, Any]], about: Mapping[str, Any]) -> Any:
    import pyarrow as pa

    kinds = {
        **{name: pa.string() for name in ("id", "cluster", "view", "group", "text", "unscored")},
        **{name: pa.list_(pa.float32()) for name in ("logprob", "mean", "std", "frequency", "gradient")},
        **{"label": pa.int8(), "n_chars": pa.int32(), "truncated": pa.bool_()},
        **{"greedy": pa.list_(pa.bool_()), "tokens": pa.list_(pa.int64()), "ends": pa.list_(pa.int32())},
    }
    order = ("id", "label", "cluster", "view", "logprob", "mean", "std", "greedy", "tokens", "ends", "frequency")
    fields = [(name, kinds[name]) for name in (*order, "group", "gradient", "n_chars", "truncated", "text", "unscored")]
    return pa.Table.from_pylist(list(rows), pa.schema(fields, metadata={_ABOUT: json.dumps(about, default=str)}))
