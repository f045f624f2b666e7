"""Shards: a split divided by document into so many parts, each judged by a run of its own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from midistill_tasks.errors import InputError


class Shard(NamedTuple):
    """One part of several: `number` counts from 1 to `of`."""

    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    @property
    def suffix(self) -> str:
        """What its files' names end with."""
        return f"-shard-{self.number}-of-{self.of}"

    def places(self, clusters: Sequence[str]) -> list[int]:
        """Which texts are its own, rising, by the document of each text [n] in the order of the split.

        Documents are numbered as they come, and dealt out in runs of as many: the texts of a shard lie close together,
        and a document lies in one.

        Raises:
            InputError: there are fewer documents than shards.
        """
        numbers: dict[str, int] = {}
        for name in clusters:
            numbers.setdefault(name, len(numbers))
        if len(numbers) < self.of:
            raise InputError(
                f"{self.of} shards of {len(numbers)} documents: a document is never divided; use at most {len(numbers)}"
            )
        return [
            place for place, name in enumerate(clusters) if numbers[name] * self.of // len(numbers) + 1 == self.number
        ]


def parse_shard(text: str) -> Shard:
    """``3/16`` → the third of sixteen.

    >>> parse_shard("3/16").suffix
    '-shard-3-of-16'

    Raises:
        InputError: it is written otherwise, or there is no such part.
    """
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    shard = Shard(int(found[1]), int(found[2])) if found else Shard(0, 0)
    if not 1 <= shard.number <= shard.of:
        raise InputError(
            f"--metadata 'mia': option 'shard' is NUMBER/OF, such as \"3/16\", counted from 1, not {text!r}"
        )
    return shard
