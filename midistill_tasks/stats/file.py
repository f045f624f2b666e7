"""A file of statistics of tokens: Parquet, one a model and split (or shard of it), which attacks read again."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from midistill_tasks.errors import InputError
from midistill_tasks.files import write_atomically
from midistill_tasks.splits.shards import Shard
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
    """As `load_stats`, a table for each model and split under a folder; the parts of several ranks or shards are one.

    Raises:
        InputError: there is none, a file is none of ours, or some of several are missing or do not belong together.
    """
    import pandas as pd

    from midistill_tasks.stats.parts import parts_below

    tables = []
    for parts in parts_below(place):
        several = [_read(part.path) for part in parts]
        whole = pd.concat(several, ignore_index=True) if len(several) > 1 else several[0]
        if "place" in whole:
            whole = whole.sort_values("place", kind="stable", ignore_index=True).drop(columns="place")
        views = whole["view"].map({view: number for number, view in enumerate(whole["view"].unique())})
        whole = whole.loc[views.sort_values(kind="stable").index].reset_index(drop=True)
        whole.attrs = several[0].attrs
        tables.append(whole)
    return tables


def about_of(table: pd.DataFrame) -> dict[str, Any]:
    """How the figures of a table came about."""
    about: dict[str, Any] = table.attrs["midistill"]
    return about


class StatsFile(NamedTuple):
    """An open file: how it came about, and pyarrow's reader."""

    about: dict[str, Any]
    parquet: Any


@contextmanager
def reading(path: Path) -> Iterator[StatsFile]:
    """A file of statistics, to be read within.

    Raises:
        InputError: it is none, or cannot be read to its end.
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            yield StatsFile(json.loads(file.schema_arrow.metadata[_ABOUT]), file)
    except InputError:
        raise
    except (OSError, KeyError, TypeError, ValueError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path} is no file of statistics that midistill wrote ({reason})") from None


def _read(path: Path) -> pd.DataFrame:
    with reading(path) as file:
        found: pd.DataFrame = file.parquet.read().to_pandas()
        found.attrs = {"midistill": file.about}
    return found


def model_folder(model: object) -> str:
    """The name of a folder for a model of this name."""
    return re.sub(r"[^\w.-]+", "__", str(model))


def path_of(folder: str, model: object, split: str, shard: Shard | None = None, part: str = "") -> Path:
    """Where the statistics of a model and split (or shard of it) are; `part` says of which rank."""
    suffix = "" if shard is None else shard.suffix
    return Path(folder).expanduser() / model_folder(model) / f"{split}{suffix}{part}.parquet"


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
    row |= {"group": doc.get("group"), **({"place": doc["place"]} if "place" in doc else {})}
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
    found: pd.DataFrame = _table(rows, _schema(about)).to_pandas()
    found.attrs = {"midistill": dict(about)}
    return found


def write(path: Path, rows: Iterable[Mapping[str, Any]], about: Mapping[str, Any]) -> None:
    """Writes the file, whole or not at all.

    Args:
        path: of the file.
        rows: of `row_of`, the views of a text together: a reader then needs no more than a few rows at a time.
        about: how they came about.

    Raises:
        InputError: see `files.writing`.
    """
    from pyarrow import parquet

    content, left = io.BytesIO(), iter(rows)
    portion = list(islice(left, _GROUP))
    schema = _schema(about, any("place" in row for row in portion))
    with parquet.ParquetWriter(content, schema, compression="zstd") as writer:
        while portion:
            writer.write_table(_table(portion, schema))
            portion = list(islice(left, _GROUP))
    write_atomically(path, content.getvalue(), ", such as another save_stats")


_GROUP = 1024
"""Rows that are compressed, and read, together."""


def _table(rows: Iterable[Mapping[str, Any]], schema: Any) -> Any:
    import pyarrow as pa

    return pa.Table.from_pylist(list(rows), schema)


def _schema(about: Mapping[str, Any], sharded: bool = False) -> Any:
    import pyarrow as pa

    kinds = {
        **{name: pa.string() for name in ("id", "cluster", "view", "group", "text", "unscored")},
        **{name: pa.list_(pa.float32()) for name in ("logprob", "mean", "std", "frequency", "gradient")},
        **{"label": pa.int8(), "n_chars": pa.int32(), "truncated": pa.bool_(), "place": pa.int64()},
        **{"greedy": pa.list_(pa.bool_()), "tokens": pa.list_(pa.int64()), "ends": pa.list_(pa.int32())},
    }
    order = ("id", "label", "cluster", "view", "logprob", "mean", "std", "greedy", "tokens", "ends", "frequency")
    more = ("group", "gradient", "n_chars", "truncated", "text", "unscored", *(["place"] if sharded else []))
    fields = [(name, kinds[name]) for name in (*order, *more)]
    return pa.schema(fields, metadata={_ABOUT: json.dumps(about, default=str)})
