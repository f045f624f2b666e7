"""Exposure against its formula, one canary at a time, and its error against other draws of the texts."""

from __future__ import annotations

import math

import numpy as np
import pytest
from made_scores import make_items

from midistill_tasks.metrics.exposure import exposure


def plain(labels, scores) -> float:
    """Carlini et al.: log2 of the candidates minus log2 of the rank, for each inserted canary."""
    inserted = [score for label, score in zip(labels, scores, strict=True) if label == 1 and not math.isnan(score)]
    held_out = [score for label, score in zip(labels, scores, strict=True) if label == 0 and not math.isnan(score)]
    found = []
    for own in inserted:
        rank = 1.0
        for other in held_out:
            rank += 1.0 if other > own else 0.5 if other == own else 0.0
        found.append(math.log2(len(held_out) + 1) - math.log2(rank))
    return float(np.mean(found))


@pytest.mark.parametrize("decimals", [0, 1, 9])
def test_it_is_the_mean_over_inserted_canaries(decimals: int) -> None:
    rng = np.random.default_rng(decimals)
    labels = rng.integers(0, 2, 150)
    scores = np.round(rng.normal(size=150) + labels, decimals)
    scores[::17] = math.nan
    assert exposure(make_items(labels, scores)).value == pytest.approx(plain(labels, scores))


def test_its_ends_and_what_says_nothing() -> None:
    labels = [1, 0] * 511
    assert exposure(make_items(labels, [float(label) for label in labels])).value == math.log2(512)
    assert math.isnan(exposure(make_items(labels, [float(label) for label in labels])).stderr)
    assert exposure(make_items(labels, [-float(label) for label in labels])).value == 0
    silent = exposure(make_items(labels, np.random.default_rng(0).normal(size=1022)))
    assert silent.value == pytest.approx(math.log2(math.e), abs=3 * silent.stderr)
    for one_class in ([], make_items([1, 1], [0.1, 0.2]), make_items([0, 0], [0.1, 0.2])):
        assert math.isnan(exposure(one_class).value)
    assert math.isnan(exposure(make_items([1, 0], [0.2, 0.1])).stderr)


@pytest.mark.parametrize("ties", [False, True])
def test_its_error_is_the_jackknifes(ties: bool) -> None:
    rng = np.random.default_rng(4)
    labels = rng.permutation([1] * 40 + [0] * 60)
    scores = rng.normal(size=100) + labels
    scores = np.round(scores, 0) if ties else scores
    of_members = (
        np.var([plain([1, *[0] * 60], [own, *scores[labels == 0]]) for own in scores[labels == 1]], ddof=1) / 40
    )
    kept = [np.arange(100) != out for out in np.flatnonzero(labels == 0)]
    without = [plain(labels[keep], scores[keep]) for keep in kept]
    expected = math.sqrt(of_members + 59 / 60 * np.sum((np.array(without) - np.mean(without)) ** 2))
    assert exposure(make_items(labels, scores)).stderr == pytest.approx(expected)


def test_its_error_is_what_other_texts_would_change() -> None:
    rng = np.random.default_rng(5)
    labels = np.arange(400) % 2
    found = [exposure(make_items(labels, rng.normal(size=400) + labels)) for _ in range(300)]
    spread = np.std([one.value for one in found])
    assert np.mean([one.stderr for one in found]) == pytest.approx(spread, rel=0.15)
