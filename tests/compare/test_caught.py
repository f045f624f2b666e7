"""The answer in whole texts."""

from __future__ import annotations

import numpy as np
import pytest

from midistill_tasks.compare.caught import Caught, caught


def test_by_hand(make_task) -> None:
    labels = [1] * 150 + [0] * 250
    scores = [3.0] * 40 + [0.0] * 110 + [4.0, 2.0, 2.0] + [0.0] * 247
    task = make_task(labels, scores)
    found = caught([task], 1, 1)
    assert found[:4] == (2, 250, 40, 150)
    assert found.sentence == "at 2 false accusations in 250 non-members, 40 of 150 members are found"
    assert found.by_chance == pytest.approx(150 * 3 / 251)
    turned = make_task(labels, [-score for score in scores])
    assert caught([turned], -1, 1)[:4] == found[:4]


def test_a_class_below_a_hundred_is_told_with_one_accusation(make_task) -> None:
    task = make_task([1, 1, 1, 0, 0, 0], [3.0, 2.0, 0.5, 2.5, 1.0, 0.0])
    assert caught([task], 1, 1).sentence == "at 1 false accusation in 3 non-members, 2 of 3 members are found"


@pytest.mark.parametrize("attacks", [1, 4])
def test_what_chance_finds_at_most_is_passed_in_one_case_of_twenty(attacks: int) -> None:
    rng = np.random.default_rng(0)
    most = Caught(4, 474, 0, 524, attacks).at_most_by_chance
    passed, means = 0, []
    for _ in range(2000):
        counts = []
        for _ in range(attacks):
            scores = rng.normal(size=998)
            for sign in (1, -1):
                members, others = sign * scores[:524], np.sort(sign * scores[524:])[::-1]
                counts.append((members > others[4]).sum())
        passed += max(counts) > most
        means.append(counts[0])
    assert 0.02 <= passed / 2000 <= 0.06
    assert np.mean(means) == pytest.approx(Caught(4, 474, 0, 524, 1).by_chance, rel=0.05)
