"""The error of a ratio of sums."""

from __future__ import annotations

import math

import numpy as np
import pytest

from midistill_tasks.metrics.estimate import ratio


def test_a_ratio_has_the_spread_of_repeated_draws():
    rng = np.random.default_rng(0)

    def draw():
        below = rng.integers(20, 60, size=80).astype(float)
        return ratio(below * rng.normal(3.0, 0.5, size=80), below)

    drawn = [draw() for _ in range(500)]
    assert np.mean([estimate.value for estimate in drawn]) == pytest.approx(3.0, rel=0.01)
    spread = float(np.std([estimate.value for estimate in drawn]))
    assert np.mean([estimate.stderr for estimate in drawn]) == pytest.approx(spread, rel=0.1)


def test_a_ratio_of_nothing_is_undefined_and_one_unit_has_no_error():
    empty = np.array([])
    assert all(map(math.isnan, ratio(empty, empty)))
    assert all(map(math.isnan, ratio(np.array([1.0]), np.array([0.0]))))
    one = ratio(np.array([1.0]), np.array([4.0]))
    assert one.value == 0.25
    assert math.isnan(one.stderr)
