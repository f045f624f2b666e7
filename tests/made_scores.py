"""Texts with scores, and plain loops over them that the metrics are held against."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from midistill_tasks.errors import warn_once
from midistill_tasks.metrics import Scored


@pytest.fixture(autouse=True)
def _each_test_hears_its_warnings():
    warn_once.cache_clear()


def make_items(labels: Sequence[int], scores: Sequence[float], clusters: Sequence[str] | None = None) -> list[Scored]:
    names = [f"text{i}" for i in range(len(labels))]
    return [
        Scored(int(label), float(score), name, cluster)
        for label, score, name, cluster in zip(labels, scores, names, clusters or names, strict=True)
    ]


def draw(rng: np.random.Generator, n: int, shift: float = 1.0, digits: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Labels and scores of n texts, rounded so that some tie."""
    labels = rng.permutation(np.arange(n) % 2)
    return labels, np.round(rng.normal(size=n) + shift * labels, digits)
