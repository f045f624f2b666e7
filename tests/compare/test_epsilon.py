"""The bound on ε is silent where there is nothing, never above the truth more often than it says, and near it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom

from midistill_tasks.compare.epsilon import epsilon, epsilons, rounded_down
from midistill_tasks.metrics.epsilon import chance, epsilon_lower, epsilon_lower_bound
from midistill_tasks.report.comparison import assess


@pytest.fixture
def coin_task(make_task):
    """``coin_task(rng, texts, score, shots)``: coins, scores from them, then the first non-members are shots."""

    def make(rng: np.random.Generator, texts: int, score, shots: int = 2, **changes):
        coins = rng.integers(0, 2, texts)
        scores = score(rng, coins)
        last = int(np.flatnonzero(coins == 0)[shots - 1])
        kept = np.ones(texts, dtype=bool)
        kept[np.flatnonzero(coins == 0)[:shots]] = False
        counts = {"empty": 0, "duplicates": 0, "both_sides": 0, "shots": shots}
        counts |= {"members": int(coins[kept].sum()), "nonmembers": int((1 - coins[kept]).sum())}
        # `make_task` names texts by their place: those before the last shot are the members among the first ones.
        after = f"{last + 1 - shots - 1:016x}" if last + 1 > shots else ""
        about = {"independent_coins": True, "coins_after": after, "counts": counts, **changes}
        return make_task(coins[kept], scores[kept], **about)

    return make


@pytest.fixture
def balanced_task(make_task):
    """The same as midistill 0.1.0 made it: shots, then the larger side cut to the smaller one."""

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


def test_the_chance_under_delta_is_the_theorems() -> None:
    """Corollary 5.4 and appendix D, term by term; at δ = 0 the binomial tail (0.553 for 75 of 100 at ε = ln 3)."""
    assert chance(75, 100, math.log(3), 0.0, 100) == pytest.approx(0.553, abs=5e-4)
    q, delta, m = math.exp(0.8) / (1 + math.exp(0.8)), 1e-3, 500
    at_least = [binom.sf(k - 1, 60, q) for k in range(61)]
    worst = max((at_least[50 - i] - at_least[50]) / i for i in range(1, 51))
    assert chance(50, 60, 0.8, delta, m) == pytest.approx(at_least[50] + 2 * m * delta * worst)
    bound = epsilon_lower_bound(50, 60, delta=1e-5, texts=m)
    assert 0 < bound < epsilon_lower_bound(50, 60)
    assert chance(50, 60, bound, 1e-5, m) == pytest.approx(0.05)


def test_no_more_right_than_chance_is_no_evidence() -> None:
    assert epsilon_lower_bound(50, 100) == 0
    assert epsilon_lower_bound(0, 100) == 0


@pytest.mark.parametrize("score", [lambda rng, coins: rng.normal(size=len(coins)), by_order])
@pytest.mark.parametrize("shots", [2, 7])
@pytest.mark.parametrize("made_by", ["coin_task", "balanced_task"])
def test_it_is_silent_on_scores_that_know_nothing_of_the_coins(request, made_by, score, shots: int) -> None:
    make = request.getfixturevalue(made_by)
    rng = np.random.default_rng(1)
    found = [epsilon(make(rng, 400, score, shots)) for _ in range(300)]
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
    assert found.reason.startswith(f"ε ≥ {rounded_down(found.value)} at δ = 0 (")


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
    coins = prepare(bios.load(), TextOptions(), "bios", coins=True)
    ids = sorted(coins.docs["id"][:])
    labels = dict(zip(coins.docs["id"][:], coins.docs["label"][:], strict=True))
    # `make_task` names texts by their place; the two shots are the only ones that are not there.
    after = sum(name <= (coins.coins_after or "") for name in ids)
    about = {"independent_coins": True, "coins_after": f"{after - 1:016x}", "counts": coins.counts}
    betrayed = epsilon(make_task([labels[name] for name in ids], [float(labels[name]) for name in ids], **about))
    assert betrayed.correct == betrayed.guesses == 2 * int(0.1 * (bios.PEOPLE - after - 2))
    assert betrayed.value == betrayed.ceiling > betrayed.at_delta > 2
    assert "saturated" in betrayed.reason


def test_shots_are_no_wrong_guesses(coin_task) -> None:
    """A perfect attack guesses right however many texts were taken out."""

    def perfect(rng, coins):
        return coins + 0.1 * rng.random(len(coins))

    for shots in (1, 60):
        found = epsilon(coin_task(np.random.default_rng(5), 1000, perfect, shots))
        assert found.correct == found.guesses > 150


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
        ({"attack": "recall"}, "puts texts of a known side in front of each text"),
        ({"attack": "unheard_of"}, "is not one that midistill knows"),
        ({"options": {"n": 100}}, "run without the option n"),
        ({"learnt": True}, "chosen by the labels of other texts"),
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


def test_all_bounds_of_all_models_share_the_error_and_have_one_confidence(coin_task, make_run) -> None:
    teachers = [coin_task(np.random.default_rng(6), 1000, response(1.0), attack=name) for name in ("loss", "zlib")]
    recall = coin_task(np.random.default_rng(6), 1000, response(1.0), attack="recall")
    runs = [make_run(name, *teachers, recall) for name in ("T", "S0", "S1")]
    found = epsilons(runs, "made")
    assert [[one.confidence for one in of_run] for of_run in found] == [[pytest.approx(1 - 0.05 / 6)] * 3] * 3
    assert math.isnan(found[0][2].value)
    assert found[0][0].value == epsilon(teachers[0], 1 - 0.05 / 6).value < epsilon(teachers[0]).value
    assert [bound.confidence for _, bound in assess(runs[0], {"arm": runs[1:]}).epsilons] == [
        found[0][0].confidence
    ] * 9


def test_the_bound_of_a_reference_says_on_what_it_rests(coin_task) -> None:
    found = epsilon(coin_task(np.random.default_rng(8), 1000, response(1.0), attack="ref"))
    assert "valid if the reference model saw none of these texts" in found.reason


def test_the_metric_of_the_table_is_the_pages_bound(coin_task) -> None:
    for seed, true in ((9, 0.0), (10, 1.0), (11, 3.0)):
        task = coin_task(np.random.default_rng(seed), 600, response(true), shots=3)
        assert epsilon_lower(task.items, task.metadata["coins_after"]) == epsilon(task).value
    assert epsilon(task).value > 1
    assert math.isnan(epsilon_lower(task.items[:99]))
    assert math.isnan(epsilon_lower([item._replace(cluster=item.id[:-1]) for item in task.items]))


def test_a_bound_in_words_is_never_above_the_one_that_is_proven() -> None:
    assert [rounded_down(bound) for bound in (1.996, 2.0, 0.0199, 0.01)] == ["1.99", "2.00", "0.01", "0.01"]
    least = epsilon_lower_bound(320, 598)  # right guesses that hardly prove anything
    assert rounded_down(least) == "0.00263"
    for right in range(320, 599, 7):
        assert float(rounded_down(epsilon_lower_bound(right, 598))) <= epsilon_lower_bound(right, 598)
