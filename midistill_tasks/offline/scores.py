"""What an attack gave many texts, in arrays: of a text some tens of bytes, and its features where labels teach."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from midistill_tasks.attacks import Attack
from midistill_tasks.attacks.judging import UNDEFINED, Found, Taught, filters_of, taught
from midistill_tasks.metrics import Scored
from midistill_tasks.metrics.crossfit import Learnt
from midistill_tasks.metrics.scored import FloatArray


class Names:
    """Of n texts, in the order of the split: ids, labels and clusters."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.labels = bytearray()
        self.clusters: list[str] = []

    def add(self, doc: Mapping[str, Any]) -> None:
        """The next text."""
        self.ids.append(doc["id"])
        self.labels.append(doc["label"])
        # Where they are equal, one string in memory for both.
        self.clusters.append(doc["id"] if doc["cluster"] == doc["id"] else doc["cluster"])

    def items(self, scores: FloatArray, learnt: bool = False) -> list[Scored]:
        """As metrics take them; see `metrics.crossfit.Learnt`."""
        kind = Learnt if learnt else float
        rows = zip(self.labels, scores.tolist(), self.ids, self.clusters, strict=True)
        return [Scored(label, kind(score), name, cluster) for label, score, name, cluster in rows]

    def __len__(self) -> int:
        return len(self.ids)


class Scores:
    """One attack's, text by text, and then those that labels teach."""

    def __init__(self, attack: Attack, variants: Mapping[str, Mapping[str, Any]]) -> None:
        self.attack, self.variants = attack, variants
        self.filters, self.learns = filters_of(variants), attack.learns(variants)
        self.by_variant = {name: array("d") for name in variants}
        self.n_tokens, self.truncated, self.common_part = array("i"), bytearray(), 0
        self._reasons, self._why = {"": 0}, array("i")
        self._features, self._with_features = array("d"), array("q")
        self.taught: Taught | None = None

    def add(self, found: Found) -> None:
        """The next text's."""
        for name, scores in self.by_variant.items():
            scores.append(found.scores.get(name, math.nan))
        if found.features:
            self._with_features.append(len(self.n_tokens))
            self._features.extend(found.features)
        self.n_tokens.append(found.length.n_tokens)
        self.truncated.append(found.length.truncated)
        self.common_part += found.common_part
        self._why.append(self._reasons.setdefault(found.why, len(self._reasons)))

    def teach(self, names: Names) -> None:
        """Once all texts are there; what was learnt from is no longer kept then."""
        if self.learns:
            self.taught = taught(self.attack, self._table(), names.items(np.full(len(names), math.nan)))
        self._features, self._with_features = array("d"), array("q")

    def of(self, filter_name: str) -> FloatArray:
        """The scores of a filter, [n]."""
        if self.taught is not None and filter_name == self.taught.filter:
            return self.taught.scores
        return np.asarray(self.by_variant[filter_name], dtype=np.float64)

    def is_learnt(self, filter_name: str) -> bool:
        """Whether labels taught the scores of this filter."""
        return self.taught is not None and filter_name == self.taught.filter

    def reasons(self) -> dict[str, int]:
        """Why texts have no score of the first filter → how many."""
        said, few = list(self._reasons), "" if self.taught is None else self.taught.why
        missing = np.flatnonzero(np.isnan(self.of(self.filters[0]))).tolist()
        return dict(Counter(said[self._why[row]] or few or UNDEFINED for row in missing))

    def counts(self) -> dict[str, int]:
        """How many texts have no score, are cut, or are judged by what all views cover, as results keep them."""
        common = {"common_part": self.common_part} if self.common_part else {}
        return {"unscored": sum(self.reasons().values()), **common, "truncated": sum(self.truncated)}

    def sample(self, row: int, filter_name: str) -> dict[str, Any]:
        """What a sample says of a text beside its document."""
        scores = {"score": float(self.of(filter_name)[row])}
        length = {"n_tokens": self.n_tokens[row], "truncated": bool(self.truncated[row])}
        return {**scores, **length, **({} if self.taught is None else self.taught.beside(row))}

    def _table(self) -> FloatArray:
        """What labels teach from, [n, d]; NaN where a text has none."""
        if not self.attack.fitted:
            columns: Sequence[array[float]] = list(self.by_variant.values())
            return np.column_stack([np.asarray(column, dtype=np.float64) for column in columns])
        rows = np.asarray(self._with_features, dtype=np.int64)
        width = len(self._features) // max(1, len(rows))
        table = np.full((len(self.n_tokens), width), math.nan)
        table[rows] = np.asarray(self._features, dtype=np.float64).reshape(len(rows), width)
        return table
