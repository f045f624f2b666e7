"""LiRA and RMIA against what one would write on paper: text by text and shadow by shadow, in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest

from midistill_tasks.compare.shadows import lira, rmia
from midistill_tasks.compare.shadows.attacks import NAMES, matrices, shadow_attacks
from midistill_tasks.metrics.roc import auroc


@pytest.fixture(params=[7, 70], ids=["one variance for all", "a variance a text"])
def drawn(request):
    """Mean log-probabilities of a target [n] and of shadows [S, n], who saw what, and the target's members."""
    rng, n = np.random.default_rng(request.param), 40
    inside, members = rng.random((request.param, n)) < 0.5, rng.random(n) < 0.5
    hard = rng.normal(-3, 0.7, n)
    shadows = np.minimum(hard + 0.3 * inside + rng.normal(0, 0.2, inside.shape), -0.01)
    return np.minimum(hard + 0.3 * members + rng.normal(0, 0.2, n), -0.01), shadows, inside, members


def phi(logprob: float) -> float:
    p = math.exp(logprob)
    return math.log(p / (1 - p))


def log_normal(x: float, mean: float, variance: float) -> float:
    return -((x - mean) ** 2) / (2 * variance) - math.log(2 * math.pi * variance) / 2


def sides(shadows, inside, text: int) -> list[list[float]]:
    """Confidences of the shadows that saw the text, and of those that did not."""
    return [
        [phi(row[text]) for row, seen in zip(shadows, inside, strict=True) if seen[text] == side] for side in (1, 0)
    ]


def variance_of(shadows, inside, text: int, side: int) -> float:
    own = [sides(shadows, inside, each)[side] for each in range(shadows.shape[1])]
    if len(shadows) >= 64:
        return sum((x - np.mean(own[text])) ** 2 for x in own[text]) / (len(own[text]) - 1)
    squares = sum((x - np.mean(values)) ** 2 for values in own for x in values)
    return squares / sum(len(values) - 1 for values in own if values)


def test_lira_is_the_papers(drawn):
    target, shadows, inside, _ = drawn
    online, offline = lira.online(target, shadows, inside), lira.offline(target, shadows, inside)
    for text in range(len(target)):
        within, without = sides(shadows, inside, text)
        spread_in, spread_out = (variance_of(shadows, inside, text, side) for side in (0, 1))
        x = phi(target[text])
        if within and without:
            ratio = log_normal(x, np.mean(within), spread_in) - log_normal(x, np.mean(without), spread_out)
            assert online[text] == pytest.approx(ratio, rel=1e-9, abs=1e-9)
        else:
            assert math.isnan(online[text])
        if without:
            above = 0.5 * math.erfc(-(x - np.mean(without)) / math.sqrt(2 * spread_out))  # 1 − Pr[Z > φ]
            assert 0.5 * math.erfc(-offline[text] / math.sqrt(2)) == pytest.approx(above, rel=1e-9)


def p_of(shadows, inside, text: int, sides: tuple[bool, ...]) -> float:
    chosen = [math.exp(row[text]) for row, seen in zip(shadows, inside, strict=True) if seen[text] in sides]
    return sum(chosen) / len(chosen) if chosen else math.nan


@pytest.mark.parametrize("gamma", [1.0, 1.3, 2.0])
@pytest.mark.parametrize("a", [None, 0.3])
def test_rmia_is_the_papers(drawn, gamma, a):
    target, shadows, inside, members = drawn
    texts = range(len(target))
    if a is None:
        reference = rmia.online(shadows, inside)
        p = [(p_of(shadows, inside, text, (True,)) + p_of(shadows, inside, text, (False,))) / 2 for text in texts]
    else:
        reference = rmia.offline(shadows, inside, a)
        p = [0.5 * ((1 + a) * p_of(shadows, inside, text, (False,)) + (1 - a)) for text in texts]
    got = rmia.scores(target, reference, ~members, gamma)
    ratio = [math.exp(target[text]) / p[text] for text in texts]
    for x in texts:
        z = [other for other in texts if not members[other] and not math.isnan(ratio[other])]
        if math.isnan(ratio[x]):
            assert math.isnan(got[x])
        else:
            beats = [0.5 * (gamma == 1.0) if each == x else ratio[x] / ratio[each] >= gamma for each in z]
            assert got[x] == pytest.approx(sum(beats) / len(z), abs=1e-12)


def test_where_half_of_the_shadows_saw_each_text_p_is_the_mean_over_all_of_them(drawn):
    _, shadows, inside, _ = drawn
    shadows, inside = np.concatenate([shadows, shadows - 0.2]), np.concatenate([inside, ~inside])
    assert rmia.online(shadows, inside) == pytest.approx(np.log(np.exp(shadows).mean(axis=0)))


def test_how_many_shadows_saw_a_text_is_no_part_of_its_score():
    """Of two equal texts one was seen by one shadow of four, the other by three."""
    inside = np.array([[True, True], [False, True], [False, True], [False, False]])
    reference = rmia.online(np.where(inside, -1.0, -2.0), inside)
    assert reference[0] == pytest.approx(reference[1])


def test_rmia_orders_the_sides_as_the_ratios_do(drawn):
    """The highest non-member does not tie with the members above it."""
    target, shadows, inside, members = drawn
    reference = rmia.online(shadows, inside)
    area = auroc(members, rmia.scores(target, reference, ~members))
    assert area == auroc(members, target - reference)
    target = np.where(members, -0.1, -5.0) + np.linspace(0, 0.01, len(target))
    assert auroc(members, rmia.scores(target, np.zeros(len(target)), ~members)) == 1.0


def test_a_is_what_the_shadows_say(drawn):
    _, shadows, inside, _ = drawn
    grid = np.linspace(0, 1, 2001)
    pairs = [(p_of(shadows, inside, t, (True,)), p_of(shadows, inside, t, (False,))) for t in range(shadows.shape[1])]
    misses = [sum((p - (a * q + 1 - a)) ** 2 for p, q in pairs if not math.isnan(p + q)) for a in grid]
    assert rmia.fitted_a(shadows, inside) == pytest.approx(grid[int(np.argmin(misses))], abs=3e-4)
    assert rmia.fitted_a(shadows[:1], inside[:1]) == 1.0, "no text has both sides"


def test_what_too_few_shadows_know_has_no_score():
    target, inside = np.array([-1.0, -2.0]), np.array([[True, False], [True, True]])
    shadows = np.array([[-1.0, -2.0], [math.nan, -2.5]])
    assert np.isnan(lira.online(target, shadows, inside)).all(), "no side has two shadows"
    assert np.isnan(rmia.online(shadows, inside)[0])
    assert not np.isnan(rmia.online(shadows, inside)[1])
    assert np.isnan(rmia.scores(target, target, np.array([False, False]))).all()


def test_a_certain_text_has_a_confidence():
    assert np.isfinite(lira.confidence(np.array([0.0, -1e-300, -800.0]))).all()


def test_on_a_target_they_find_what_the_loss_alone_does_not(make_task):
    """The texts' own difficulty hides the members from the loss; shadows know it."""
    rng, n = np.random.default_rng(1), 400
    hard, members = rng.normal(-4, 1.0, n), rng.random(n) < 0.5

    def model(seen):
        return make_task(seen, np.minimum(hard + 0.3 * seen + rng.normal(0, 0.15, n), -0.01))

    target, shadows = model(members), [model(rng.random(n) < 0.5) for _ in range(8)]
    found = shadow_attacks(target, shadows)
    assert list(found) == list(NAMES)
    alone = target.measured["auroc"].value
    for name, result in found.items():
        assert result.measured["auroc"].value > alone + (0.1 if name == "rmia_offline" else 0.2)
        assert [item.id for item in result.items] == [item.id for item in target.items]
    assert found["lira"].name == "mia_lira_made"
    losses, inside = matrices(target, shadows)
    assert (losses == np.stack([shadow.scores for shadow in shadows])).all()
    assert (inside == np.stack([shadow.labels for shadow in shadows])).all()
    strangers = shadow_attacks(model(rng.random(n) < 0.5), shadows)["lira"]
    assert auroc(members, strangers.scores) == pytest.approx(0.5, abs=0.1), "the labels of another target"
