"""Which models no other beats in both privacy and utility."""

from __future__ import annotations

import math

import numpy as np
import pytest

from midistill_tasks.compare.pareto import points, shared_perplexity, strongest_leak
from midistill_tasks.errors import InputError
from midistill_tasks.results.run import Utility

PERPLEXITY = "held_out/word_perplexity"


def model(make_task, make_run, name: str, shift: float, perplexity: float, accuracy: float = 0.5):
    """Deterministic scores: the leak grows with the shift alone."""
    labels = np.arange(100) % 2
    scores = (np.arange(100) * 37 % 100) / 100 + shift * labels
    utility = {
        "arc/acc": Utility("arc", "acc", accuracy, 0.01, True),
        PERPLEXITY: Utility("held_out", "word_perplexity", perplexity, math.nan, False),
    }
    return make_run(name, make_task(labels, scores), utility=utility)


def test_the_front_is_what_a_look_at_all_pairs_gives(make_task, make_run) -> None:
    rng = np.random.default_rng(0)
    runs = [model(make_task, make_run, f"m{n}", rng.random(), float(rng.integers(10, 20))) for n in range(25)]
    found = points(runs, "made", PERPLEXITY)
    assert [point.model for point in found] == [run.model for run in runs]
    for point in found:
        beaten = any(
            other.leak.value <= point.leak.value
            and other.utility.value <= point.utility.value
            and (other.leak.value < point.leak.value or other.utility.value < point.utility.value)
            for other in found
        )
        assert point.on_front is not beaten
    assert 0 < sum(point.on_front for point in found) < 25


def test_a_higher_accuracy_is_better_where_a_lower_perplexity_is(make_task, make_run) -> None:
    runs = [model(make_task, make_run, "weak", 0.5, 10, 0.2), model(make_task, make_run, "good", 0.5, 20, 0.8)]
    assert [point.on_front for point in points(runs, "made", "arc/acc")] == [False, True]
    assert [point.on_front for point in points(runs, "made", PERPLEXITY)] == [True, False]


def test_equal_models_share_the_front_and_an_unknown_figure_has_no_place_on_it(make_task, make_run) -> None:
    runs = [model(make_task, make_run, name, 0.5, value) for name, value in (("a", 10), ("b", 10), ("c", math.nan))]
    assert [point.on_front for point in points(runs, "made", PERPLEXITY)] == [True, True, False]


def test_the_strongest_attack_may_be_one_whose_sign_is_wrong(make_task, make_run) -> None:
    labels = np.arange(100) % 2
    scores = np.arange(100) * 37 % 100
    run = make_run("m", make_task(labels, scores + 20 * labels), make_task(labels, scores - 60 * labels, attack="zlib"))
    attack, leak = strongest_leak(run, "made")
    area = run.on("made")["zlib"].measured["auroc"]
    assert attack == "zlib"
    assert area.value < 0.5
    assert leak == (0.5 - area.value, area.stderr)


def test_a_missing_figure_or_split_is_named(make_task, make_run) -> None:
    runs = [model(make_task, make_run, "a", 0.5, 10), make_run("b", make_task([1, 0] * 20, range(40)))]
    assert shared_perplexity(runs[:1]) == PERPLEXITY
    assert shared_perplexity(runs) is None
    with pytest.raises(InputError, match="b has no 'arc/acc'; it has nothing"):
        points(runs, "made", "arc/acc")
    with pytest.raises(InputError, match=r"a has no 'arc/ac' \(did you mean 'arc/acc'\?\)"):
        points(runs, "made", "arc/ac")
    with pytest.raises(InputError, match="a was not attacked on mode"):
        points(runs[:1], "mode", "arc/acc")
