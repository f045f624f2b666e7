"""What a canary may be: an endless stream of texts from one distribution, whatever its coin will say."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import count

from midistill_tasks.errors import InputError
from midistill_tasks.splits.bios import biographies

WORDS = 24
"""Of a text of kind `random`."""
PIECE, PIECES = 12, 3
"""Words of one text of the user's that a text of kind `like` takes at most, and from how many texts."""
TRIES = 1000
"""Draws in a row that give no usable text, after which there are none."""


def people(seed: int, wanted: int) -> Iterator[str]:
    """Made-up biographies, as of the split `bios`."""
    for more in count():
        yield from biographies(wanted, seed + more)


def random_words(rng: random.Random) -> Iterator[str]:
    """Words of a dictionary in an order that means nothing."""
    from faker import Faker

    words = sorted(Faker("en_US").get_words_list())
    while True:
        yield " ".join(rng.choices(words, k=WORDS))


class Recombined:
    """Runs of words of several texts, one after another: of the user's own kind, and none of the user's texts whole."""

    def __init__(self, texts: Sequence[str], rng: random.Random) -> None:
        """Raises: InputError: no text has the four words of which a part can be taken."""
        self.rng = rng
        split = [text.split() for text in texts]
        self.long = [words for words in split if len(words) >= 4]
        if not self.long:
            raise InputError(
                "--like holds no text of four words or more, so none can be taken apart; give longer texts"
            )
        longest = PIECE * PIECES
        self.whole = {tuple(words) for words in split if 0 < len(words) <= longest}
        self.lengths = sorted({len(words) for words in self.whole})

    def __iter__(self) -> Iterator[str]:
        """Raises: InputError: the texts are so short that whole ones turn up in whatever is made of them."""
        while True:
            made = next((words for words in map(self._draw, range(TRIES)) if not self._holds_a_whole_one(words)), None)
            if made is None:
                raise InputError(
                    "the texts of --like are so short that whole ones stand in whatever is made of them; leave those"
                    " of a few words out"
                )
            yield " ".join(made)

    def _draw(self, _: int) -> list[str]:
        made: list[str] = []
        for words in self.rng.choices(self.long, k=PIECES):
            length = min(PIECE, self.rng.randint(2, max(2, len(words) // 2)))
            start = self.rng.randrange(len(words) - length + 1)
            made += words[start : start + length]
        return made

    def _holds_a_whole_one(self, words: list[str]) -> bool:
        return any(
            tuple(words[start : start + length]) in self.whole
            for length in self.lengths
            for start in range(len(words) - length + 1)
        )
