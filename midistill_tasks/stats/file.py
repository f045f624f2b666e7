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
from midistill_tasks.views import TEXT, TokenStats, Unscored

if TYPE_CHECKING:
    import pandas as pd

_ABOUT = b"midistill"
_ARRAYS = {"logprob": "<f4", "mean": "<f4", "std": "<f4", "greedy": "?", "tokens": "<i8", "frequency": "<f4"}


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
    """The row of a document (id, label, cluster, perhaps text) in a view."""
    row: dict[str, Any] = {"id": doc["id"], "label": doc["label"], "cluster": doc["cluster"], "view": view}
    row |= {"group": doc.get("group"), **({"place": doc["place"]} if "place" in doc else {})}
    if with_text and view == TEXT.name and (isinstance(answer, Unscored) or answer.truncated):
        row["whole"] = doc.get("text")  # which the blind baseline reads
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
        **{name: pa.string() for name in ("id", "cluster", "view", "group", "text", "unscored", "whole")},
        **{name: pa.list_(pa.float32()) for name in ("logprob", "mean", "std", "frequency", "gradient")},
        **{"label": pa.int8(), "n_chars": pa.int32(), "truncated": pa.bool_(), "place": pa.int64()},
        **{"greedy": pa.list_(pa.bool_()), "tokens": pa.list_(pa.int64()), "ends": pa.list_(pa.int32())},
    }
    order = ("id", "label", "cluster", "view", "logprob", "mean", "std", "greedy", "tokens", "ends", "frequency")
    more = ("group", "gradient", "n_chars", "truncated", "text", "whole", "unscored", *(["place"] if sharded else []))
    fields = [(name, kinds[name]) for name in (*order, *more)]
    return pa.schema(fields, metadata={_ABOUT: json.dumps(about, default=str)})
