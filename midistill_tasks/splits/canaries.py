"""Canaries that `midistill canaries make` wrote: those inserted into the training data against those held out."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pydantic import BaseModel, Field, ValidationError

from midistill_tasks.errors import InputError
from midistill_tasks.options import option
from midistill_tasks.splits import readers
from midistill_tasks.splits.base import Split
from midistill_tasks.splits.options import TextOptions

if TYPE_CHECKING:
    import datasets

PLAN, INSERTED, HELD_OUT = "canaries.json", "inserted.jsonl", "held_out.jsonl"
AGAIN = "take the folder back as `midistill canaries make` wrote it, or make other canaries and train again"


class Tokenizer(BaseModel):
    """By which tokens were counted, of kind `rare`."""

    name: str
    vocabulary_sha256: str
    endings: int = Field(description="how many different tokens the canaries end in")
    most_used: int = Field(description="how often the commonest of these stands in the texts of `like`")


class Plan(BaseModel):
    """canaries.json: all that making the same canaries again needs, and what the files must be."""

    schema_version: int = 1
    kind: str
    n: int
    repeats: list[int]
    seed: int = Field(description="of texts, groups, coins and the order of the lines, by a generator each")
    column: str = Field(description="in both files, the text's; beside it stand id and group")
    like: dict[str, str] = Field({}, description="the user's files → SHA-256 of their texts, in order")
    tokenizer: Tokenizer | None = None
    groups: dict[str, dict[str, int]] = Field(description="repeats → how many canaries are inserted and held_out")
    files: dict[str, str] = Field(description="file → its SHA-256")
    versions: dict[str, str]


class Canary(NamedTuple):
    """One text, its name, and how often it stands among the training data if its coin inserted it."""

    id: str
    text: str
    repeats: int


class Planted(NamedTuple):
    """A folder of canaries; each once."""

    plan: Plan
    inserted: tuple[Canary, ...]
    held_out: tuple[Canary, ...]


def read_canaries(folder: str | Path) -> Planted:
    """The canaries of a folder.

    Raises:
        InputError: it is no such folder, or a file in it is not what `midistill canaries make` wrote.
    """
    place = Path(folder).expanduser()
    if not (place / PLAN).is_file():
        raise InputError(
            f"'{folder}' holds no {PLAN}: give the folder that `midistill canaries make --output` wrote"
            f" (relative ones start at {Path.cwd()})"
        )
    try:
        plan = Plan.model_validate_json((place / PLAN).read_text(encoding="utf-8"))
    except (ValidationError, OSError, UnicodeDecodeError):
        raise InputError(f"{place / PLAN} is not what was written there: {AGAIN}") from None
    inserted, held_out = (_read(place / name, plan) for name in (INSERTED, HELD_OUT))
    for canary, count in inserted.items():
        if count != canary.repeats or canary.repeats not in plan.repeats:
            raise InputError(f"{place / PLAN} does not belong to {INSERTED} ('{canary.id}' has {count} lines): {AGAIN}")
    return Planted(plan, tuple(inserted), tuple(held_out))


def _read(path: Path, plan: Plan) -> Counter[Canary]:
    """Its canaries, by name, and how many lines each has."""
    if not path.is_file():
        raise InputError(f"{path} is missing: {AGAIN}")
    if hashlib.sha256(path.read_bytes()).hexdigest() != plan.files.get(path.name):
        raise InputError(f"{path} was changed (its SHA-256 is not the one in {PLAN}): {AGAIN}")
    table = readers.read_file(path)
    columns = (readers.pick_column(table, name, str(path)) for name in ("id", plan.column, "group"))
    return Counter(Canary(*row) for row in sorted(zip(*columns, strict=True)))


def load(
    options: TextOptions,
    copy: Path | None,
    *,
    canaries: str | None = option(None, "the folder that `midistill canaries make` wrote"),
) -> datasets.Dataset:
    """Members are the inserted canaries, once each, non-members the held-out ones; ``name`` and ``group`` (its repeats)
    go with them.

    Raises:
        InputError: the folder is not given, or see `read_canaries`.
    """
    if canaries is None:
        raise InputError(f"the split 'canaries' {SPLITS[0].lacks({})}")
    planted = read_canaries(canaries)
    listed = [*((canary, 1) for canary in planted.inserted), *((canary, 0) for canary in planted.held_out)]
    listed.sort()
    table: readers.Table = {
        "text": [canary.text for canary, _ in listed],
        "label": [label for _, label in listed],
        "name": [canary.id for canary, _ in listed],
        "group": [str(canary.repeats) for canary, _ in listed],
    }
    return readers.to_dataset(table, "canaries")


SPLITS = (
    Split(
        name="canaries",
        title="canaries that you planted with `midistill canaries make`: inserted against held out, by fair coins",
        valid_for="the model that was trained on the inserted canaries (any other is a control)",
        loader=load,
        downloads=False,
        independent_coins=True,
        needs={"canaries": "canaries/"},
        metrics=("epsilon_lower", "exposure"),
    ),
)
