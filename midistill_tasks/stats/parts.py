"""Which files of statistics are one split: of several ranks, of shards, with none missing and no text in two."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from midistill_tasks.attacks import ATTACKS
from midistill_tasks.errors import InputError
from midistill_tasks.splits.shards import Shard, parse_shard
from midistill_tasks.stats.command import how_to_make
from midistill_tasks.stats.file import reading

_NOT_OF_TEXTS = frozenset({"save_stats", "log_text"})
"""Options that change nothing of the figures."""
_NAMED = 5


@dataclass(frozen=True)
class Part:
    """A file of statistics, as far as its columns of names tell.

    Attributes:
        path: of the file.
        about: what it says of itself.
        texts: how many are in it.
        by_text: whether the views of each text stand together; before shards there were files by view.
        places: of a shard's texts among all, [texts]; None = it is no shard.
        views: names.
        labels: that occur.
    """

    path: Path
    about: Mapping[str, Any]
    texts: int
    by_text: bool
    places: npt.NDArray[np.int64] | None
    views: frozenset[str]
    labels: frozenset[int]

    @property
    def shard(self) -> Shard | None:
        """Which one; None = none, but all texts, or a rank's."""
        return parse_shard(self.about["shard"]) if "shard" in self.about else None


def look(path: Path) -> Part:
    """Reads names only.

    Raises:
        InputError: it is no file of statistics, or not whole.
    """
    with reading(path) as file:
        about = file.about
        sharded = "place" in file.parquet.schema_arrow.names
        names = file.parquet.read(columns=["id", "view", "label", *(["place"] if sharded else [])])
        ids = names["id"].dictionary_encode().combine_chunks()
        codes = np.asarray(ids.indices, dtype=np.int64)  # numbered as they come
        views, labels = (frozenset(names[column].unique().to_pylist()) for column in ("view", "label"))
        places = np.asarray(names["place"], dtype=np.int64)[np.unique(codes, return_index=True)[1]] if sharded else None
    return Part(path, about, len(ids.dictionary), bool((np.diff(codes) >= 0).all()), places, views, labels)


def parts_below(place: str | Path) -> list[list[Part]]:
    """The files under a folder (or the one file), those of each model and split together and whole, in their order.

    Raises:
        InputError: there is none, one is none of ours, or some of several are missing or do not belong together.
    """
    path = Path(place).expanduser()
    files = [path] if path.is_file() else sorted(path.rglob("*.parquet"))
    if not files:
        raise InputError(
            f'{place} holds no statistics: run lm_eval with --metadata \'{{"mia": {{"save_stats": "FOLDER"}}}}\''
        )
    found: dict[tuple[str, str, str], list[Part]] = {}
    for part in map(look, files):
        found.setdefault((str(part.path.parent), part.about["model"], part.about["split"]), []).append(part)
    return [_whole(place, parts) for parts in found.values()]


def _whole(place: str | Path, parts: Sequence[Part]) -> list[Part]:
    """The parts in the order of their first texts; raises InputError unless they are one split."""
    if all(part.shard is None for part in parts):
        ranks = parts[0].about["ranks"]
        if len(parts) != ranks:
            raise InputError(f"{place}: of {ranks} ranks' parts {len(parts)} are there: keep them together")
        _of_one_run(place, parts)
        _in_one_rank(place, parts)
        return list(parts)
    by_shard: dict[Shard, list[Part]] = {}
    for part in parts:
        if part.shard is None:
            raise InputError(
                f"{place}: {part.about['split']} is there as a whole and in shards ({_paths(parts)}): keep one of both"
            )
        by_shard.setdefault(part.shard, []).append(part)
    _divided_alike(place, by_shard)
    _all_there(place, by_shard)
    _of_one_run(place, parts)
    _each_text_once(place, parts)
    return sorted((part for part in parts if part.texts), key=lambda part: _places(part)[0])


def _divided_alike(place: str | Path, by_shard: Mapping[Shard, Sequence[Part]]) -> None:
    if len(divisions := sorted({shard.of for shard in by_shard})) > 1:
        raise InputError(
            f"{place}: shards of a division into {' and of one into '.join(map(str, divisions))} lie together, so that "
            f"texts would be in two: keep one division ({_paths(part for each in by_shard.values() for part in each)})"
        )


def _all_there(place: str | Path, by_shard: Mapping[Shard, Sequence[Part]]) -> None:
    for shard, parts in by_shard.items():
        ranks = parts[0].about["ranks"]
        if len(parts) > ranks:
            raise InputError(f"{place}: shard {shard} is there twice ({_paths(parts)}): keep one")
        if len(parts) < ranks:
            raise InputError(f"{place}: of shard {shard} {len(parts)} of {ranks} ranks' parts are there")
    known, own = next(iter(by_shard.items()))
    missing = [shard for number in range(1, known.of + 1) if (shard := Shard(number, known.of)) not in by_shard]
    if missing:
        how = how_to_make(missing, str(own[0].about.get("command", "")), known)
        raise InputError(f"{place}: of {known.of} shards {len(missing)} are missing ({_named(missing)}): {how}")


def _of_one_run(place: str | Path, parts: Sequence[Part]) -> None:
    first = parts[0]
    for part in parts[1:]:
        if differs := _differs(first, part):
            what, other = (f"shard {one.shard}" if one.shard else one.path.name for one in (part, first))
            remedy = "make one of both again" if part.shard else "run them all again"
            raise InputError(f"{place}: {what} does not belong to {other}: {differs}: {remedy}")


def _in_one_rank(place: str | Path, parts: Sequence[Part]) -> None:
    """Ranks of two runs may have divided the texts otherwise."""
    if len(parts) == 1:
        return
    seen = set[str]()
    for part in parts:
        with reading(part.path) as file:
            ids = file.parquet.read(columns=["id"])["id"].unique().to_pylist()
        if both := sorted(seen.intersection(ids)):
            raise InputError(
                f"{place}: texts of {part.path.name}, such as {both[0]}, are in another rank's part, too: these are of "
                "different runs: run them all again"
            )
        seen.update(ids)


def _differs(one: Part, other: Part) -> str:
    """Why two files are not of one run; "" where they may be."""
    if one.about["model_identity"] != other.about["model_identity"]:
        return "they are of different models of this name"
    if lacking := one.views ^ other.views:
        return f"the view {min(lacking)} is in one of both only"
    return next(differences(one.about, other.about), "")


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[str]:
    """What two runs, by what they say of themselves, do not have in common of what decides a text's statistics.

    Options of attacks do not count: those that decide a view stand in its name.
    """
    if one["data_sha256"] != other["data_sha256"]:
        yield "they are of different texts or labels"
    yield from _scored_otherwise(one.get("scored_by"), other.get("scored_by"))
    before, after = one["options"], other["options"]
    of_attacks = {name for attack in ATTACKS.values() for name in attack.fields}
    for name in sorted({*before, *after} - _NOT_OF_TEXTS - of_attacks):
        if before.get(name) != after.get(name):
            yield f"the option {name} is {before.get(name)!r} in one and {after.get(name)!r} in the other"


def _scored_otherwise(one: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> Iterator[str]:
    """In what the model was given differently; by hand, and before it was written, nobody says."""
    if not one or not other:
        return
    if one["model"] != other["model"]:
        yield f"--model is {one['model']} in one and {other['model']} in the other"
    before, after = one["model_args"], other["model_args"]
    for name in sorted({*before, *after}):
        if before.get(name) != after.get(name):
            yield f"{name} of --model_args is {before.get(name)!r} in one and {after.get(name)!r} in the other"


def _each_text_once(place: str | Path, parts: Sequence[Part]) -> None:
    expected = sum(parts[0].about["counts"][side] for side in ("members", "nonmembers"))
    places = np.sort(np.concatenate([_places(part) for part in parts]))
    if not np.array_equal(places, np.arange(expected)):
        raise InputError(
            f"{place}: the shards hold {len(np.unique(places))} of the {expected} texts of {parts[0].about['split']}, "
            f"{len(places) - len(np.unique(places))} of them twice: make the shards again"
        )


def _places(part: Part) -> npt.NDArray[np.int64]:
    return np.array([], dtype=np.int64) if part.places is None else part.places


def _named(shards: Sequence[Shard]) -> str:
    more = f" and {len(shards) - _NAMED} more" if len(shards) > _NAMED else ""
    return ", ".join(map(str, shards[:_NAMED])) + more


def _paths(parts: Iterable[Part]) -> str:
    names = [part.path.name for part in parts]
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
