"""Statistics on disk as pandas tables: what a notebook reads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from midistill_tasks.errors import InputError
from midistill_tasks.stats.file import reading
from midistill_tasks.stats.parts import parts_below

if TYPE_CHECKING:
    import pandas as pd


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
      scored (None where ``log_text`` was false), ``whole``, all of a text that was cut or not scored, of the view
      ``text``, ``unscored``, why there is no figure, or None.

    ``.attrs["midistill"]`` says how they came about: model, split, options, hashes of data and model, versions.

    Raises:
        InputError: the place holds no such file, or those of several models or splits.
    """
    tables = load_all(place)
    if len(tables) > 1:
        each = [table.attrs["midistill"] for table in tables]
        names = ", ".join(f"{about['model']}/{about['split']}" for about in each)
        raise InputError(f"{place} holds the statistics of {len(tables)} models and splits ({names}): name one file")
    return tables[0]


def load_all(place: str | Path) -> list[pd.DataFrame]:
    """As `load_stats`, a table for each model and split under a folder; the parts of several ranks or shards are one.

    Raises:
        InputError: there is none, a file is none of ours, or some of several are missing or do not belong together.
    """
    import pandas as pd

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


def _read(path: Path) -> pd.DataFrame:
    with reading(path) as file:
        found: pd.DataFrame = file.parquet.read().to_pandas()
        found.attrs = {"midistill": file.about}
    return found
