"""The texts of a run: which ones the student is trained on, and which ones only measure it."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from transformers import PreTrainedTokenizerBase

from midistill_tasks.errors import InputError, nearest
from midistill_tasks.methods import Intervention
from midistill_tasks.recipes.schema import Data
from midistill_tasks.recipes.wording import in_recipes_words
from midistill_tasks.splits import SPLITS
from midistill_tasks.splits.documents import Documents, documents, draw
from midistill_tasks.splits.options import TextOptions
from midistill_tasks.splits.sources import Source
from midistill_tasks.splits.sources import read_texts as read_texts

logger = logging.getLogger(__name__)

IGNORED = -100
"""The label of a token that is not scored."""


@dataclass(frozen=True)
class Texts:
    """Members, non-members, and what was left out on the way to them."""

    members: list[str]
    nonmembers: list[str]
    counts: dict[str, int] = field(default_factory=dict)
    known: frozenset[str] = frozenset()
    """What ``distil_on`` must not hold beside these: every member, whether ``n`` drew it or not, and the shots."""
    undrawn: frozenset[str] = frozenset()
    """Members that ``n`` did not draw, of which a teacher may have learnt, too."""

    @cached_property
    def of_split(self) -> frozenset[str]:
        """All that are known."""
        return self.known.union(self.members, self.nonmembers)


def load_texts(data: Data) -> Texts:
    """Members and non-members of the recipe's split, without blank texts, duplicates and texts on both sides.

    They are exactly the texts that the harness's MIA tasks score, under the same ``n`` and ``seed`` where there is one.

    Raises:
        InputError: for a split, file or column that does not exist, or if no member is left.
    """
    if data.split == "files" and data.nonmembers is None:
        return _members_alone(data)
    if data.split not in SPLITS:
        raise InputError(f"data.split: there is no split '{data.split}'{nearest(data.split, SPLITS)}")
    split = SPLITS[data.split]
    options = TextOptions(
        n=data.n,
        seed=data.seed,
        dataset_path=data.dataset_path,
        dataset_revision=data.dataset_revision,
        own=data.options_of(split),
    )
    with in_recipes_words():
        return texts_of(documents(split, options), data)


def all_texts(data: Data) -> Texts:
    """As `load_texts`, without ``n``, which is for the student and for what is measured: a teacher learns from all."""
    return load_texts(data.model_copy(update={"n": None}))


def _members_alone(data: Data) -> Texts:
    given = read_texts(data.members or [], data.column)
    members = distinct(given)
    if not members:
        raise InputError(f"{data.members} holds no text: give a file with at least one member")
    if data.n is not None and data.n > len(members):
        raise InputError(f"data.n is {data.n}, but {data.members} has {len(members)} members: use at most so many")
    drawn = draw(members, data.n or len(members), data.seed, label=1)
    known = frozenset(members)
    return Texts(drawn, [], {"left_out": len(given) - len(members)}, known, known.difference(drawn))


def texts_of(documents: Documents, data: Data) -> Texts:
    """Members and non-members among a split's documents, in the split's order."""
    members = documents.members
    left_out = {name: documents.counts[name] for name in ("empty", "duplicates", "both_sides")}
    counts = {"members": len(members), "nonmembers": len(documents.nonmembers), **left_out}
    known = frozenset((*documents.all_members, *documents.shots))
    return Texts(members, documents.nonmembers, counts, known, frozenset(documents.all_members).difference(members))


def distinct(texts: Sequence[str]) -> list[str]:
    """Without blank ones, each once, in the order in which they come first."""
    return list(dict.fromkeys(text for text in texts if text.strip()))


def given_texts(data: Data, texts: Texts) -> tuple[list[str], dict[str, int]]:
    """What there is to distil on where nobody has to write it: the texts of ``distil_on``, else the members; and how
    many others are left out. Raises as `other_texts`."""
    return (texts.members, {}) if data.distil_on is None else other_texts(data.distil_on, data.column, texts)


def other_texts(source: Source, column: str, texts: Texts, key: str = "distil_on") -> tuple[list[str], dict[str, int]]:
    """The texts of a file, without blank ones, duplicates and the split's own texts; how many those were.

    Args:
        source: of the texts.
        column: that holds them.
        texts: of the split.
        key: of ``data``, for messages and for the names of the counts.

    Raises:
        InputError: a file cannot be read, or nothing is left.
    """
    given = read_texts(source, column)
    unique = distinct(given)
    kept = [text for text in unique if text not in texts.of_split]
    empty, shared, name = sum(not text.strip() for text in given), len(unique) - len(kept), key.rpartition(".")[2]
    counts = {
        f"{name}_empty": empty,
        f"{name}_duplicates": len(given) - empty - len(unique),
        f"{name}_shared": shared,
    }
    if not kept:
        raise InputError(
            f"data.{key}: of its {len(given)} texts {empty} are blank, and the others are members or non-members:"
            " give other texts, since the student is never to see those"
        )
    if shared:
        logger.warning(
            "data.%s: %d of its %d texts are members or non-members, and are left out", key, shared, len(given)
        )
    return kept, counts


def text_id(text: str) -> str:
    """The id under which the harness's samples know a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def kept_members(members: Sequence[str], interventions: Sequence[Intervention], seed: int) -> list[int]:
    """Positions of the members that all interventions leave to train on, ascending.

    Raises:
        InputError: one of them cannot say, or nothing is left.
    """
    kept = set(range(len(members)))
    for intervention in interventions:
        kept &= set(intervention.keep(members, seed))
    if not kept:
        raise InputError(f"interventions: none of the {len(members)} members is left to train on")
    return sorted(kept)


@dataclass(frozen=True)
class Encoded:
    """Texts as token ids, the too short ones left out; `positions` says which texts they were."""

    ids: list[list[int]]
    positions: list[int]
    cut: int
    longest: int
    """Tokens of the longest text, whole."""

    def __len__(self) -> int:
        return len(self.ids)


def encode(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, max_length: int) -> Encoded:
    """The first ``max_length`` tokens of each text that has at least two.

    Raises:
        InputError: if none has.
    """
    encoded = tokenizer(list(texts), truncation=False, verbose=False)["input_ids"] if texts else []
    positions = [position for position, ids in enumerate(encoded) if len(ids) >= 2]
    if not positions:
        raise InputError(f"none of the {len(texts)} texts has two tokens, so there is nothing to predict: give texts")
    return Encoded(
        ids=[encoded[position][:max_length] for position in positions],
        positions=positions,
        cut=sum(len(encoded[position]) > max_length for position in positions),
        longest=max(len(encoded[position]) for position in positions),
    )


def said_of_cut(texts: Encoded, max_length: int, most: int | None) -> str:
    """Which texts are longer than what is kept of them, and how to keep more; "" where none is.

    Args:
        texts: as they are trained on.
        max_length: tokens kept of each.
        most: tokens that the models can read at once; None where that is not known.
    """
    if not texts.cut:
        return ""
    which = f"all {len(texts)} texts" if texts.cut == len(texts) else f"{texts.cut} of {len(texts)} texts"
    enough = min(texts.longest, most or texts.longest)
    more = f"; --set data.max_length={enough} keeps more" if enough > max_length else ""
    return (
        f"{which} are longer than data.max_length ({max_length} tokens; longest {texts.longest}): the student learns"
        f" their first {max_length} tokens, but is attacked on whole texts{more}"
    )


def fingerprint(value: Any) -> str:
    """xxh3-128 of nested lists, strings and numbers."""
    import json

    import xxhash

    return xxhash.xxh3_128_hexdigest(json.dumps(value, sort_keys=True, ensure_ascii=False).encode())
