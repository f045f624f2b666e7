"""Canaries that end in a token next to never used: Panda et al., "Privacy Auditing of Large Language Models", ICLR 2025
(arXiv 2503.06808).

A model has hardly learnt anything of such a token, so one text that ends in it moves its probability there by far more
than an ordinary sentence moves anything: these canaries show more of ε than others, at the same number.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from tqdm import tqdm

from midistill_tasks.errors import InputError
from midistill_tasks.models.loading import load_tokenizer
from midistill_tasks.splits.canaries import Tokenizer

BATCH = 256
RARE = 1e-5
"""Share of the counted tokens up to which one is next to never used."""
AT_LEAST = 16
"""Different tokens that are taken even where they are used more, as all are in a small vocabulary."""


class Rare:
    """Beginnings, each with a rare token behind it: the rarest first, another for each as long as there are any."""

    def __init__(self, name: str, texts: Sequence[str], beginnings: Iterable[str], rng: random.Random) -> None:
        """Raises: InputError: the tokenizer cannot be loaded."""
        self.name, self.beginnings = name, iter(beginnings)
        self.tokenizer: Any = load_tokenizer(name, "--tokenizer")
        self.used = self._count(texts)
        special = {*self.tokenizer.all_special_ids, *self.tokenizer.get_added_vocab().values()}
        candidates = [token for token in sorted(self.tokenizer.get_vocab().values()) if token not in special]
        rng.shuffle(candidates)
        self.candidates = sorted(candidates, key=self.used.__getitem__)
        self.most = RARE * self.used.total()
        self.endings: list[int] = []

    def _count(self, texts: Sequence[str]) -> Counter[int]:
        used: Counter[int] = Counter()
        for start in tqdm(range(0, len(texts), BATCH), "counting tokens", unit="batch", disable=None):
            for ids in self._ids(list(texts[start : start + BATCH])):
                used.update(ids)
        return used

    def _ids(self, texts: list[str]) -> list[list[int]]:
        found: list[list[int]] = self.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
        return found

    def __iter__(self) -> Iterator[str]:
        """Raises: InputError: no token of the vocabulary can end a text."""
        for token in self.candidates:
            if self.used[token] > self.most and len(self.endings) >= AT_LEAST:
                break
            if text := self._ended(next(self.beginnings), token):
                self.endings.append(token)
                yield text
        if not self.endings:
            raise InputError(
                f"--tokenizer: no token of '{self.name}' ends a text so that it is read as that token again; take the"
                " tokenizer of the model that is trained"
            )
        while True:  # there are fewer such tokens than canaries
            for token in self.endings:
                if text := self._ended(next(self.beginnings), token):
                    yield text

    def _ended(self, beginning: str, token: int) -> str:
        """The text, if the tokenizer reads that token at its end, as nothing but the token; else ""."""
        piece = self.tokenizer.decode([token])
        if not piece.strip() or not piece.isprintable() or "\ufffd" in piece:
            return ""
        texts = [beginning + piece, f"{beginning} {piece.strip()}"]
        before = self._ids([beginning])[0]
        return next((text for text, ids in zip(texts, self._ids(texts), strict=True) if ids == [*before, token]), "")

    def about(self) -> Tokenizer:
        """Of the texts that were taken so far."""
        vocabulary = json.dumps(sorted(self.tokenizer.get_vocab().items()))
        return Tokenizer(
            name=self.name,
            vocabulary_sha256=hashlib.sha256(vocabulary.encode()).hexdigest(),
            endings=len(self.endings),
            most_used=max(self.used[token] for token in self.endings),
        )
