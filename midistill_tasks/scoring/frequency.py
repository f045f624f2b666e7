"""How often the tokens of a text occur in other texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np
from tqdm import tqdm

from midistill_tasks.scoring.protocol import Scorer
from midistill_tasks.views import FloatArray, IntArray


class Frequencies:
    """Shares of the tokens of some texts, add-one smoothed.

    (c + 1)/(N + U + 1) for a token that occurs c times among N tokens, U of them distinct: the one more stands for all
    tokens that do not occur.
    """

    def __init__(self, scorer: Scorer, texts: Iterable[str]) -> None:
        self.counts: Counter[int] = Counter()
        for text in tqdm(texts, desc="Counting tokens", disable=scorer.rank != 0, leave=False):
            self.counts.update(scorer.encode(text).ids)
        self.total = self.counts.total() + len(self.counts) + 1

    def of(self, tokens: IntArray) -> FloatArray:
        """Of each token, [n]."""
        return np.array([(self.counts[token] + 1) / self.total for token in tokens.tolist()], dtype=np.float32)
