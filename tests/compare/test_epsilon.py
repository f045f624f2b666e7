"""The bound on ε is silent where there is nothing, never above the truth more often than it says, and near it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom

from midistill_tasks.compare.epsilon import epsilon, epsilon_lower_bound, epsilons
from midistill_tasks.report.comparison import assess


@pytest.fixture
def coin_task(make_task):
    """``coin_task(rng, texts, score, shots)``: coins, scores from them, then shots and balancing as in `prepare`."""

    def make(rng: np.random.Generator, texts: int, score, shots: int = 2, **changes):
        coins = rng.integers(0, 2, texts)
        scores = score(rng, coins)
        members, nonmembers = np.flatnonzero(coins == 1), np.flatnonzero(coins == 0)[shots:]
        size = min(len(members), len(nonmembers))
        unbalanced = len(members) + len(nonmembers) - 2 * size
        drawn = [rng.choice(side, size, replace=False) for side in (members, nonmembers)]
        kept = np.sort(np.concatenate(drawn))
        counts = {"empty": 0, "duplicates": 0, "both_sides": 0, "shots": shots, "unbalanced": unbalanced}
        counts |= {"members": size, "nonmembers": size}
        return make_task(coins[kept], scores[kept], independent_coins=True, **{"counts": counts, **changes})

    return make


def response(eps: float):
    """Randomised response: each text's coin is told truly with probability e^ε/(1+e^ε). It is exactly ε-DP."""
    truth = math.exp(eps) / (1 + math.exp(eps))
    return lambda rng, coins: np.where(rng.random(len(coins)) < truth, coins, 1 - coins).astype(float)


def by_order(rng, coins):
    """What a guesser would score who knows the order of the texts: before the last shot there are only members."""
    return -np.arange(len(coins), dtype=float)


@pytest.mark.parametrize(("correct", "guesses"), [(80, 100), (100, 100), (9, 10), (501, 900)])
def test_at_the_bound_so_many_right_guesses_have_the_chance_that_is_left(correct: int, guesses: int) -> None:
    eps = epsilon_lower_bound(correct, guesses)
    accuracy = math.exp(eps) / (1 + math.exp(eps))
    chance = sum(binom.pmf(k, guesses, accuracy) for k in range(correct, guesses + 1))
    assert chance == pytest.approx(0.05) if eps > 0 else chance >= 0.05


def test_no_more_right_than_chance_is_no_evidence() -> None:
    assert epsilon_lower_bound(50, 100) == 0
    assert epsilon_lower_bound(0, 100) == 0


@pytest.mark.parametrize("score", [lambda rng, coins: rng.normal(size=len(coins)), by_order])
@pytest.mark.parametrize("shots", [2, 7])
def test_it_is_silent_on_scores_that_know_nothing_of_the_coins(coin_task, score, shots: int) -> None:
    rng = np.random.default_rng(1)
    found = [epsilon(coin_task(rng, 400, score, shots)) for _ in range(300)]
    assert sum(one.value > 0 for one in found) <= 21  # 15 allowed on average; above 21 has a chance of 1 in 20
    silent = next(one for one in found if one.value == 0)
    assert silent.reason.startswith("no evidence (")


@pytest.mark.parametrize("true", [0.5, 1.0, 2.0])
def test_it_holds_on_randomised_response(coin_task, true: float) -> None:
    rng = np.random.default_rng(2)
    found = [epsilon(coin_task(rng, 1000, response(true))).value for _ in range(100)]
    assert sum(value > true for value in found) <= 9  # 5 allowed on average; above 9 has a chance of 1 in 35


@pytest.mark.parametrize("true", [0.5, 1.0, 2.0, 3.0])
def test_it_comes_near_on_randomised_response_of_many_texts(coin_task, true: float) -> None:
    found = epsilon(coin_task(np.random.default_rng(3), 40_000, response(true)))
    assert true - 0.25 < found.value <= true
    assert found.reason.startswith(f"ε ≥ {found.value:.2f} at δ = 0 (")


def test_the_counts_of_the_embedded_split_are_those_of_its_coins(make_task) -> None:
    """The bound takes the number of coins from the counts; here they come from the real preparation."""
    from midistill_tasks.splits import bios
    from midistill_tasks.splits.documents import prepare
    from midistill_tasks.splits.options import TextOptions

    prepared = prepare(bios.load(), TextOptions(), "bios")
    labels = prepared.docs["label"][:]
    task = make_task(labels, [label + 0.001 * n for n, label in enumerate(labels)], counts=prepared.counts)
    assert "not chosen by independent fair coins" in epsilon(task).reason
    fair = make_task(labels, task.scores, counts=prepared.counts, independent_coins=True)
    assert epsilon(fair).guesses == 2 * int(0.1 * (bios.PEOPLE - 5 * math.sqrt(bios.PEOPLE)))
    assert epsilon(fair).value > 2


def test_a_model_that_betrays_every_member_shows_what_so_many_guesses_can_show(coin_task) -> None:
    found = epsilon(coin_task(np.random.default_rng(4), 1000, lambda rng, coins: coins + 0.1 * rng.random(len(coins))))
    assert found.guesses == 168  # a tenth of 1000 − 5√1000 on either side
    assert found.correct >= 160
    assert 2 < found.value < math.log(0.05 ** (1 / 168) / (1 - 0.05 ** (1 / 168)))


def test_texts_taken_out_count_as_wrong_guesses(coin_task) -> None:
    """A perfect attack, and so many shots that the unscored texts of E are sure to fall on guesses."""

    def perfect(rng, coins):
        return coins + 0.1 * rng.random(len(coins))

    few, many = (epsilon(coin_task(np.random.default_rng(5), 1000, perfect, shots)) for shots in (1, 60))
    assert few.guesses == many.guesses
    assert few.correct - many.correct > 30


@pytest.mark.parametrize("side", ["highest", "lowest"])
def test_so_do_the_texts_that_were_cut_from_the_larger_side_whichever_that_was(make_task, side: str) -> None:
    """1000 coins, of which 150 more fell on one side: E wants some 60 more of that side than have a score.

    At one end of the ranking all 84 guesses are right, at the other some two in three. Which side was cut is not known;
    if it is the side that would spoil the good end, only 24 of its guesses are sure.
    """
    labels = np.tile([1, 0], 425)
    rng = np.random.default_rng(0)
    good = (labels == (1 if side == "highest" else 0)) & (rng.random(850) < 0.5)
    scores = np.where(good, 2, 0) + rng.random(850)
    counts = dict.fromkeys(("empty", "duplicates", "both_sides", "shots"), 0)
    counts |= {"unbalanced": 150, "members": 425, "nonmembers": 425}
    task = make_task(labels, scores if side == "highest" else -scores, independent_coins=True, counts=counts)
    found = epsilon(task)
    assert found.guesses == 168
    assert found.correct == pytest.approx(24 + 84 * 2 / 3, abs=12)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"independent_coins": False}, "not chosen by independent fair coins"),
        ({"attack": "recall"}, "puts non-members in front of each text"),
        ({"attack": "unheard_of"}, "is not one that midistill knows"),
        ({"options": {"n": 100}}, "run without the option n"),
    ],
)
def test_other_tasks_get_no_epsilon_and_are_told_why(make_task, changes: dict, reason: str) -> None:
    labels = [1, 0] * 100
    found = epsilon(make_task(labels, [float(label) for label in labels], **{"independent_coins": True, **changes}))
    assert math.isnan(found.value)
    assert reason in found.reason


def test_texts_that_share_a_coin_or_were_left_out_get_no_epsilon(make_task, coin_task) -> None:
    labels = [1, 0] * 100
    shared = make_task(labels, labels, [str(n // 4) for n in range(200)], independent_coins=True)
    assert "several texts come from one document" in epsilon(shared).reason
    rng = np.random.default_rng(0)
    counts = dict.fromkeys(("empty", "both_sides", "shots", "unbalanced"), 0) | {"members": 100, "nonmembers": 100}
    doubled = make_task(labels, labels, independent_coins=True, counts=counts | {"duplicates": 3})
    assert "3 texts stand twice" in epsilon(doubled).reason
    limited = make_task(labels, labels, independent_coins=True, counts=counts | {"duplicates": 0, "members": 150})
    assert "only a part of the texts was scored" in epsilon(limited).reason
    unscored = coin_task(rng, 400, lambda rng, coins: np.where(rng.random(len(coins)) < 0.8, np.nan, coins))
    assert "fewer than 100 texts, or than half of them, have a score" in epsilon(unscored).reason


def test_several_attacks_share_the_error_so_that_the_largest_bound_holds(coin_task, make_run) -> None:
    tasks = [coin_task(np.random.default_rng(6), 1000, response(1.0), attack=name) for name in ("loss", "zlib")]
    recall = coin_task(np.random.default_rng(6), 1000, response(1.0), attack="recall")
    found = epsilons(make_run("S", *tasks, recall))
    assert [one.confidence for one in found[:2]] == pytest.approx([0.975, 0.975])
    assert math.isnan(found[2].value)
    assert found[0].value == epsilon(tasks[0], 0.975).value < epsilon(tasks[0]).value


def test_several_seeds_of_an_arm_share_the_error_too(coin_task, make_run) -> None:
    task = coin_task(np.random.default_rng(7), 1000, response(1.0))
    teacher, *students = [make_run(name, task) for name in ("T", "S0", "S1")]
    found = assess(teacher, {"arm": students}).epsilons
    assert [(name, bound.confidence) for name, bound in found] == [
        ("T", pytest.approx(0.95)),
        ("S0", pytest.approx(0.975)),
        ("S1", pytest.approx(0.975)),
    ]
    assert found[1][1].value < found[0][1].value
