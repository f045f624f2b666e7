"""One resolved set of texts: what a split gives under options, cleaned, the same for all who ask."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from weakref import WeakValueDictionary

import numpy as np

from midistill_tasks.errors import InputError
from midistill_tasks.splits.base import Split
from midistill_tasks.splits.hub import commits
from midistill_tasks.splits.options import TextOptions
from midistill_tasks.splits.readers import Table, pick_column, pick_texts
from midistill_tasks.splits.rows import load_split

if TYPE_CHECKING:
    import datasets

DATA_KEYS = ("dataset_path", "dataset_name", "dataset_kwargs", "test_split")
"""The harness's keys that say where the data is."""
ROW_KEYS = ("process_docs", "doc_to_text", "doc_to_target")
"""And those that say what a row's text and label are."""


Drawn = TypeVar("Drawn")


class LeftOut(NamedTuple):
    """A member that is not judged: the user's name of it, and why."""

    name: str
    reason: str


@dataclass(frozen=True, eq=False)
class Documents:
    """The texts of a split under options: for tasks, perplexity and trainer alike."""

    docs: datasets.Dataset
    """Columns ``id`` (first 16 hex digits of the text's SHA-256), ``text``, ``label`` (1 member, 0 non-member),
    ``cluster`` (the document it came from; = ``id`` where the split has none), of a user's own texts ``name``, of
    canaries ``group`` (how often each is repeated); the sides interleaved in proportion, a member first, so that any
    first N hold of each as all texts do."""
    shots: tuple[str, ...]
    """The first non-members of the split (by id, where coins chose), taken out for all attacks and never scored."""
    counts: Mapping[str, int]
    """Rows: ``empty``, ``duplicates``, ``both_sides`` and ``shots`` were left out, ``members`` and ``nonmembers`` are
    scored."""
    all_members: tuple[str, ...]
    """Every member that is no duplicate, whether ``n`` drew it or not."""

    member_shots: tuple[str, ...] = ()
    """As many members, the first of the split (by id, where coins chose). They are scored by all attacks but those that
    put them in front of a text."""
    coins_after: str | None = None
    """Where a fair coin of its own chose the side of each text: the largest id of the shots. All texts up to it were
    looked at until there were enough shots; of those after it nobody knows the side by the shots."""
    commits: Mapping[str, str] = field(default_factory=dict)
    """Of the hub's data sets that were read: name → commit."""
    left_out: tuple[LeftOut, ...] = ()
    """Of a user's own files: the members that are not judged, in their order."""

    @property
    def coins(self) -> dict[str, Any]:
        """What results say of the coins."""
        after = {} if self.coins_after is None else {"coins_after": self.coins_after}
        return {"independent_coins": self.coins_after is not None, **after}

    @cached_property
    def listed(self) -> list[tuple[str, int]]:
        """Id and label of each text, in their order."""
        return list(zip(self.docs["id"], self.docs["label"], strict=True))

    @cached_property
    def data_sha256(self) -> str:
        """See `data_sha256`."""
        return data_sha256(self.listed)

    @property
    def members(self) -> list[str]:
        """The members that are scored."""
        return self._of(1)

    @property
    def nonmembers(self) -> list[str]:
        """The non-members that are scored: what a model's perplexity is taken on, too."""
        return self._of(0)

    def _of(self, side: int) -> list[str]:
        return [text for text, label in zip(self.docs["text"], self.docs["label"], strict=True) if label == side]


_known: WeakValueDictionary[str, Documents] = WeakValueDictionary()
"""For as long as somebody holds them: six attacks on a split, and its perplexity, load it once."""


def documents(
    split: Split | None,
    options: TextOptions,
    name: str = "",
    config: Mapping[str, Any] | None = None,
    columns: Callable[[datasets.Dataset], datasets.Dataset] | None = None,
) -> Documents:
    """The documents of a split, loaded and prepared once for all that ask with the same keys and options.

    Args:
        split: one of `SPLITS`, or None where `config` says by the harness's keys where the data is.
        options: which texts.
        name: of the split, for messages; its own by default.
        config: the harness's keys of the task; the split's own by default.
        columns: makes text, label and cluster of a data set's raw rows; by default `doc_to_text` and `doc_to_target`
            name columns.

    Raises:
        InputError: the data cannot be found or read, or is not what `prepare` needs.
    """
    name = name or (split.name if split else "")
    config = (split.config if split else {}) if config is None else config
    key = json.dumps(
        [name, [config.get(key) for key in (*DATA_KEYS, *ROW_KEYS)], options.model_dump()], default=repr, sort_keys=True
    )
    found = _known.get(key)
    if found is None:
        with commits() as read:
            rows = load_split(split, config, options)
        if split is None or split.loader is None:
            rows = columns(rows) if columns else _renamed(rows, config)
        coins = options.independent_coins or bool(split and split.independent_coins)
        found = _known[key] = replace(prepare(rows, options, name, coins), commits=read)
    return found


def _renamed(rows: datasets.Dataset, config: Mapping[str, Any]) -> datasets.Dataset:
    for name, key in (("text", "doc_to_text"), ("label", "doc_to_target")):
        column = config.get(key, name)
        if column != name and column in rows.column_names:  # a single table may have our names already
            rows = rows.rename_column(column, name)
    return rows


def prepare(rows: datasets.Dataset, options: TextOptions, name: str = "the split", coins: bool = False) -> Documents:
    """Cleans, takes the shots out and, with ``options.n``, draws.

    In this order: texts of white space alone go; of equal texts on one side the first stays; texts on both sides go
    altogether; the first ``options.shots`` non-members become the shots; ``options.n`` cuts both sides to it, by a draw
    with ``options.seed`` that keeps the split's order. Without, all are scored: no metric needs sides of equal size,
    and a member that is left out would count as not found.

    Args:
        rows: columns ``text`` (str), ``label`` (0, 1, False, True, "0" or "1") and perhaps ``cluster`` (str).
        options: read here: ``shots``, ``n``, ``seed``.
        name: of the split, for messages.
        coins: a fair coin of its own chose the side of each text. The shots are then the first non-members by id, a
            hash of the text, which no label decides: see `metrics.epsilon`.

    Raises:
        InputError: a column is missing, a value is of the wrong kind (rows are counted from 1), one side is empty,
            there are fewer non-members than shots + 2, or fewer texts than ``n``.
    """
    sides, counts, left_out = _clean(rows, name)
    members, nonmembers = sides[1], sides[0]
    if not members or not nonmembers:
        missing = "members (label 1)" if not members else "non-members (label 0)"
        if both := counts["both_sides"] // 2:
            raise InputError(
                f"{name} has no {missing} left: {both} texts stand on both sides, which says nothing of either; give"
                " two files that differ"
            )
        raise InputError(f"{name} has no {missing} among its {len(rows)} rows; give texts of both kinds")
    if len(nonmembers) < options.shots + 2:
        raise InputError(
            f"{name} has {len(nonmembers)} non-members, but {options.shots} are taken out as shots and 2 must remain;"
            ' give more non-members, or fewer shots with {"mia": {"shots": …}}'
        )
    shots = _first(nonmembers, options.shots, coins)
    nonmembers = [row for row in nonmembers if row not in shots]
    smaller = min(len(members), len(nonmembers))
    if options.n is not None and options.n > smaller:
        raise InputError(
            f"option 'n' is {options.n}, but {name} has {len(members)} members and {len(nonmembers)} non-members to"
            f" score; use at most {smaller}"
        )
    sides_drawn = [draw(side, options.n or len(side), options.seed, side[0].label) for side in (members, nonmembers)]
    counts |= {"shots": len(shots), "members": len(sides_drawn[0]), "nonmembers": len(sides_drawn[1])}
    drawn = set(sides_drawn[0])
    left_out += [
        LeftOut(row.name, f"not among the {options.n} drawn") for row in members if row.name and row not in drawn
    ]
    return Documents(
        _documents(_interleaved(*sides_drawn)),
        tuple(row.text for row in shots),
        counts,
        tuple(row.text for row in members),
        tuple(row.text for row in _first(members, options.shots, coins)),
        text_id(shots[-1].text) if coins else None,
        left_out=tuple(left_out),
    )


class _Row(NamedTuple):
    text: str
    label: int
    cluster: str | None
    name: str | None
    group: str | None


def _clean(rows: datasets.Dataset, name: str) -> tuple[dict[int, list[_Row]], dict[str, int], list[LeftOut]]:
    """Rows by label, in order, without empty texts, duplicates and texts on both sides; and what was left out."""
    table: Table = {column: rows[column][:] for column in rows.column_names}
    texts, labels = pick_texts(table, "text", name), _labels(pick_column(table, "label", name), name)
    clusters: list[Any] = pick_texts(table, "cluster", name) if "cluster" in table else [None] * len(texts)
    names, groups = (_words(table.get(column), len(texts)) for column in ("name", "group"))
    listed = [_Row(*row) for row in zip(texts, labels, clusters, names, groups, strict=True)]
    unique: dict[tuple[str, int], _Row] = {}
    empty = 0
    for row in listed:
        if row.text.strip():
            unique.setdefault((row.text, row.label), row)
        else:
            empty += 1
    kept = [row for (text, label), row in unique.items() if (text, 1 - label) not in unique]
    counts = {
        "empty": empty,
        "duplicates": len(texts) - empty - len(unique),
        "both_sides": len(unique) - len(kept),
    }
    left_out = [LeftOut(row.name, why) for row in listed if row.name and row.label and (why := _why_out(row, unique))]
    return {label: [row for row in kept if row.label == label] for label in (0, 1)}, counts, left_out


def _words(values: list[Any] | None, count: int) -> list[Any]:
    """A column of str; None for each where there is none, or one of somebody else's."""
    return values if values and all(isinstance(each, str) for each in values) else [None] * count


def _why_out(row: _Row, unique: Mapping[tuple[str, int], _Row]) -> str:
    """Why a row is not judged; "" where it is. In words that hold none of its own."""
    if not row.text.strip():
        return "no text"
    if (other := unique.get((row.text, 1 - row.label))) is not None:
        return f"also among the non-members: {other.name}"
    first = unique[row.text, row.label]
    return "" if first is row else f"the same text as {first.name}"


def _labels(values: list[Any], name: str) -> list[int]:
    known = {0: 0, 1: 1, "0": 0, "1": 1}  # False == 0 and True == 1
    for row, value in enumerate(values, 1):
        if not isinstance(value, (int, str, float)) or value not in known:
            raise InputError(f"{name}, row {row}: the label is {value!r}; labels are 1 for members, 0 for non-members")
    return [known[value] for value in values]


def text_id(text: str) -> str:
    """The first 16 hex digits of its SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def data_sha256(listed: Sequence[tuple[str, int]]) -> str:
    """Of texts by id and label, in any order: what runs on the same texts have in common."""
    return hashlib.sha256("\n".join(sorted(f"{name}{label}" for name, label in listed)).encode()).hexdigest()


def _first(rows: list[_Row], count: int, by_id: bool) -> list[_Row]:
    return (sorted(rows, key=lambda row: text_id(row.text)) if by_id else rows)[:count]


def draw(rows: list[Drawn], size: int, seed: int, label: int) -> list[Drawn]:
    """`size` of the `rows` of a side without replacement, in their own order."""
    if size == len(rows):
        return rows
    chosen = np.random.default_rng([seed, label]).choice(len(rows), size, replace=False)
    return [rows[index] for index in np.sort(chosen)]


def _interleaved(members: list[_Row], nonmembers: list[_Row]) -> list[_Row]:
    """Both in their order and in proportion, a member first: ``--limit`` takes the first N."""
    placed = [(n / len(side), -row.label, row) for side in (members, nonmembers) for n, row in enumerate(side)]
    return [row for _, _, row in sorted(placed, key=lambda place: place[:2])]


def _documents(rows: list[_Row]) -> datasets.Dataset:
    import datasets

    ids = [text_id(row.text) for row in rows]
    columns = {
        "id": ids,
        "text": [row.text for row in rows],
        "label": [row.label for row in rows],
        "cluster": [row.cluster or id for row, id in zip(rows, ids, strict=True)],
    }
    beside = {"name": [row.name for row in rows], "group": [row.group for row in rows]}
    return datasets.Dataset.from_dict(columns | {name: kept for name, kept in beside.items() if None not in kept})
