"""Whether a training file holds the inserted canaries as often as planned, and none of those held out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tqdm import tqdm

from midistill_tasks.splits.canaries import Canary, Planted
from midistill_tasks.splits.readers import pick_texts
from midistill_tasks.splits.sources import Source, read_source

KEY = 16
"""Characters of a canary by which it is looked up."""
_WORD = re.compile(r"\b(?=\w)")


@dataclass(frozen=True)
class Verified:
    """What stands in the training data.

    Attributes:
        rows: of all files.
        counts: canary → how often it was found, in a row of its own or within one.
        planted: what should stand there.
    """

    rows: int
    counts: Counter[Canary]
    planted: Planted

    @property
    def missing(self) -> list[Canary]:
        """Inserted canaries that stand there less often than planned."""
        return [canary for canary in self.planted.inserted if self.counts[canary] < canary.repeats]

    @property
    def too_many(self) -> list[Canary]:
        """Those that stand there more often."""
        return [canary for canary in self.planted.inserted if self.counts[canary] > canary.repeats]

    @property
    def leaked(self) -> list[Canary]:
        """Held-out canaries that stand there at all."""
        return [canary for canary in self.planted.held_out if self.counts[canary]]

    def found(self, repeats: int) -> tuple[int, int]:
        """Lines of a group: planned, and found."""
        group = [canary for canary in self.planted.inserted if canary.repeats == repeats]
        return repeats * len(group), sum(self.counts[canary] for canary in group)

    @property
    def fault(self) -> str:
        """What is wrong, in one sentence with a remedy; "" where nothing is."""
        faults = (
            (self.missing, "inserted canaries stand there too seldom"),
            (self.too_many, "inserted canaries stand there too often"),
            (self.leaked, "held-out canaries stand there"),
        )
        said = [f"{len(canaries)} {what} ({_named(canaries, self.counts)})" for canaries, what in faults if canaries]
        remedy = "mix inserted.jsonl in once, whole, and nothing of held_out.jsonl, and train on that"
        return f"{'; '.join(said)}: {remedy}" if said else ""


def verify(planted: Planted, source: Source, column: str | None = None) -> Verified:
    """Counts every canary in the training data.

    Args:
        planted: the folder of canaries.
        source: the training data, see `Source`.
        column: of its texts; by default as in the canaries' own files.

    Raises:
        InputError: a file cannot be read, or has no such column.
    """
    index = Index([*planted.inserted, *planted.held_out])
    counts: Counter[Canary] = Counter()
    rows = 0
    for text in tqdm(_texts(source, column or planted.plan.column), "looking for canaries", unit="row", disable=None):
        rows += 1
        counts.update(index.within(text))
    return Verified(rows, counts, planted)


def _texts(source: Source, column: str) -> Iterator[str]:
    for where, table in read_source(source):
        yield from pick_texts(table, column, where)


class Index:
    """Canaries by their first characters from their first word on, so that each row is gone through once."""

    def __init__(self, canaries: Iterable[Canary]) -> None:
        self.by_key: dict[str, list[tuple[int, Canary]]] = {}
        self.lengths: set[int] = set()
        for canary in canaries:
            begins = next((found.start() for found in _WORD.finditer(canary.text)), 0)
            key = canary.text[begins : begins + KEY]
            self.lengths.add(len(key))
            self.by_key.setdefault(key, []).append((begins, canary))

    def within(self, text: str) -> Iterator[Canary]:
        """Every place of every canary in a text."""
        for place in (found.start() for found in _WORD.finditer(text)):
            for length in self.lengths:
                for begins, canary in self.by_key.get(text[place : place + length], ()):
                    if place >= begins and text.startswith(canary.text, place - begins):
                        yield canary


def _named(canaries: list[Canary], counts: Counter[Canary]) -> str:
    first = ", ".join(f"{canary.id}: {counts[canary]}" for canary in canaries[:3])
    return first + (", …" if len(canaries) > 3 else "")
