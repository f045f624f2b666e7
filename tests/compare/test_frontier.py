"""Privacy at equal utility: the interpolation and its error, and the words."""

from __future__ import annotations

import math

import numpy as np
import pytest
from made_frontier import STEPS, Student, World, excess, study, texts_like

from midistill_tasks.compare.frontier.against import AtEqualUtility, LeastReduction, judge
from midistill_tasks.compare.frontier.interpolation import Measured, at_utility_of, differences, front, measure
from midistill_tasks.metrics.clusters import cluster_codes, resample
from midistill_tasks.metrics.roc import auroc


def drawn(student: Student, world: World, weights: np.ndarray) -> tuple[float, float]:
    """Utility and AUROC of a bootstrap sample, the plain way."""
    (result,) = student.results.values()
    rows = np.repeat(np.arange(len(weights)), weights)
    held = weights[world.labels == 0]
    utility = (held @ student.heldout.losses) / (held @ student.heldout.sizes)
    return utility, auroc(result.labels[rows], result.scores[rows])


def at_equal_utility(points: list[tuple[float, float]], arm: tuple[float, float]) -> float:
    """The vanilla student's AUROC at the arm's utility minus the arm's."""
    utilities, areas = zip(*sorted(points), strict=True)
    return float(np.interp(arm[0], utilities, areas)) - arm[1]


@pytest.mark.parametrize(("texts_a_document", "time"), [(1, 0.12), (1, 0.75), (4, 0.45)])
def test_the_error_is_that_of_a_bootstrap_with_the_interpolation_inside(texts_a_document, time):
    """Away from the students of the frontier: at one, the slope changes within the error."""
    world = World(np.random.default_rng(1), 400, texts_a_document)
    seeds = [world.apart(time) for _ in range(2)]
    made, texts, _ = study(seeds)
    twins = [seed.twin("stopped") for seed in made]
    found = differences(twins, [seed.student for seed in made], (0, 0), texts)
    codes = cluster_codes(world.clusters, len(world.clusters))
    replicates = []
    for weights in resample(world.labels.astype(bool), codes, 500, np.random.default_rng(2)):
        for one in weights:
            values = [
                at_equal_utility([drawn(point, world, one) for point in points], drawn(arm, world, one))
                for points, arm in seeds
            ]
            replicates.append(values)
    # The value itself is that of the plain way, with every text once.
    once = np.ones(len(world.labels), dtype=int)
    for (points, arm), value in zip(seeds, found.values, strict=True):
        plain = at_equal_utility([drawn(point, world, once) for point in points], drawn(arm, world, once))
        assert value == pytest.approx(-plain)
    oracle = np.cov(np.array(replicates).T)
    assert np.sqrt(np.diag(found.covariance)) == pytest.approx(np.sqrt(np.diag(oracle)), rel=0.11)
    assert math.sqrt(found.covariance.sum()) == pytest.approx(math.sqrt(oracle.sum()), rel=0.11)


def test_the_part_of_the_error_that_the_utilities_share_drops_out():
    """A stopped student of the same training is nearly the point beside it: its difference is sure to a fraction."""
    world = World(np.random.default_rng(3), 400)
    (seed,), texts, _ = study([world.stopped(STEPS[3] * 1.02)])
    near = differences([seed.twin("stopped")], [seed.student], (0, 0), texts).covariance[0, 0]
    (seed,), texts, _ = study([world.apart(STEPS[3] * 1.02)])
    apart = differences([seed.twin("stopped")], [seed.student], (0, 0), texts).covariance[0, 0]
    assert near < apart / 4


def test_an_overtrained_vanilla_student_flatters_no_arm():
    """Past its best perplexity the vanilla student leaks more at the u of one that was stopped early."""
    world = World(np.random.default_rng(12), 300)
    seeds = []
    for _ in range(3):
        points, stopped = world.stopped(0.15)
        overtrained = world.student(world.path([1.0])[0], excess(0.15) - 0.01, 0.8)
        seeds.append(([*points, overtrained], stopped))
    made, *_ = study(seeds)
    for seed, (points, _) in zip(made, seeds, strict=True):
        without = seed._replace(defences={"stopped": seed.defences["stopped"][:-1]})
        assert len(points) == len(STEPS) + 1
        assert seed.twin("stopped").areas == pytest.approx(without.twin("stopped").areas)


def point(utility: float, area: float = 0.5) -> Measured:
    nothing = np.zeros(3)
    return Measured(np.array([area]), nothing[None], np.zeros(1), utility, nothing)


def test_students_that_are_no_better_than_with_less_training_are_left_out():
    """Past the best perplexity, and of two equal ones the later."""
    assert front([2.0, 1.5, 1.5, 1.2, 1.3, 1.1, 1.4]) == [0, 1, 3, 5]


def test_nothing_is_extrapolated_and_the_ends_belong_to_the_range():
    points = [point(2.0, 0.6), point(1.0, 0.8), point(0.5, 0.9)]
    assert at_utility_of(point(2.01), points) is None
    assert at_utility_of(point(0.49), points) is None
    areas = [at_utility_of(point(u), points).areas[0] for u in (2.0, 1.25, 1.0, 0.5)]
    assert areas == pytest.approx([0.6, 0.75, 0.8, 0.9])


def test_how_far_the_curve_may_lie_from_the_line_is_that_of_a_parabola():
    """Exact for a quadratic frontier with neighbours, and the sharpest monotone one where there are two students."""

    def curve(u: float) -> float:
        return 0.9 - 0.1 * u + 0.03 * u**2

    points = [point(u, curve(u)) for u in (1.6, 1.0, 0.3, 0.0)]
    for u in (1.4, 0.6):
        found = at_utility_of(point(u), points)
        assert found.areas[0] - found.bend[0] == pytest.approx(curve(u))
    two = at_utility_of(point(0.25), [point(1.0, 0.6), point(0.0, 0.8)])
    assert abs(two.bend[0]) == pytest.approx(0.2 * (math.sqrt(0.25) - 0.25))


def test_before_the_last_student_the_perplexity_is_a_parabola_of_the_leak_too():
    """Exact for one through the last three students, up to the one that stands upright at the last."""
    for vertex in (0.95, 0.9):  # beyond the last student, and at it

        def utility(area: float, vertex: float = vertex) -> float:
            return 4 * (area - vertex) ** 2

        points = [point(utility(area), area) for area in (0.5, 0.6, 0.75, 0.9)]
        found = at_utility_of(point(utility(0.85)), points)
        assert found.areas[0] - found.bend[0] == pytest.approx(0.85)
    past = [
        point(u, area) for u, area in ((1.0, 0.6), (0.1, 0.75), (0.09, 0.9))
    ]  # its vertex would lie before the last
    assert at_utility_of(point(0.0925), past).bend[0] >= 0.15 * (0.5 - 0.25) - 1e-12


def test_a_student_of_the_same_training_stopped_shortly_before_its_best_perplexity_does_not_leak_less():
    for seed in range(8):
        world = World(np.random.default_rng(seed), 400, turning=0.125)
        found = judge("stopped", *study([world.stopped(0.75, 2) for _ in range(3)]))
        assert found.reduction.lower <= 0 <= found.reduction.upper


def test_a_student_of_the_same_training_stopped_between_two_checkpoints_does_not_leak_less():
    """Its error is tiny, and less than the line is beside the curve."""
    for seed in range(8):
        world = World(np.random.default_rng(seed), 500)
        found = judge("stopped", *study([world.stopped(0.42) for _ in range(3)]))
        assert found.reduction.lower <= 0 <= found.reduction.upper


def arm(gain: float, seeds: int = 5, time: float = 0.4, attacks: int = 2, seed: int = 5):
    world = World(np.random.default_rng(seed), 500)
    return judge("bottleneck", *study([world.apart(time, attacks, gain) for _ in range(seeds)]))


def test_an_arm_that_remembers_less_at_its_perplexity_leaks_less():
    found = arm(0.1)
    assert (found.word, found.seeds, found.defence) == ("leaks less", 5, "stopped")
    value, lower, upper = found.reduction
    said = f"{value:.3f} [{lower:.3f}, {upper:.3f}]"
    assert found.sentence == f"bottleneck leaks less than a vanilla student of its perplexity: {said}."
    assert 0 < found.p < 0.01
    assert found.perplexity == pytest.approx(math.exp(2 + excess(0.4)), rel=0.05)


def test_an_arm_that_remembers_more_is_no_better():
    found = arm(-0.2)
    assert found.word == "no better than stopping early"
    leaks = "bottleneck leaks more than a vanilla student of its perplexity, so it is no better than stopping early: "
    assert found.sentence.startswith(leaks)
    assert arm(-0.05).sentence.startswith("bottleneck is no better than stopping early: ")


def test_an_arm_of_one_seed_and_few_texts_is_undecided():
    world = World(np.random.default_rng(6), 60)
    found = judge("nonorm", *study([world.apart(0.4)]))
    assert found.word == "undecided"
    assert found.p == 1
    assert found.sentence.startswith("Undecided whether nonorm leaks less than a vanilla student of its perplexity: ")


def test_a_seed_out_of_range_ends_the_comparison():
    world = World(np.random.default_rng(7), 200)
    seeds = [world.apart(0.4), world.apart(0.4), world.apart(1 / 40)]
    found = judge("all", *study(seeds))
    assert (found.word, found.seeds) == ("no comparison", 0)
    assert math.isnan(found.p)
    why = "no vanilla student is as weak as in 1 of 3 seeds."
    assert found.sentence == f"No comparison of all with a vanilla student of its perplexity: {why}"
    points, student = world.apart(1.0)
    better = Student(student.results, student.heldout._replace(losses=student.heldout.losses - 50))
    assert "no vanilla student is as good." in judge("all", *study([(points, better)])).sentence


def on_fewer_texts(world, seeds, texts):
    """The seeds, with vanilla students on fewer texts beside: they leak less than those that were stopped."""
    found = []
    for seed in seeds:
        noise = world.path(STEPS)
        weak = [world.student(noise[k], excess(step), 0.2 * step) for k, step in enumerate(STEPS)]
        of_texts = [measure(one.results, one.heldout, texts) for one in weak]
        found.append(seed._replace(defences={**seed.defences, "fewer": of_texts}))
    return found


def test_an_arm_must_leak_less_than_both_defences():
    """The reduction against the one that leaks less at the arm's perplexity, its upper limit at half of the alpha."""
    world = World(np.random.default_rng(8), 500)
    made, texts, sides = study([world.apart(0.4, gain=0.05) for _ in range(3)])
    fewer = on_fewer_texts(world, made, texts)
    found = judge("bottleneck", fewer, texts, sides)
    assert found.defence == "fewer"
    each = [
        AtEqualUtility([seed.twin(name) for seed in fewer], [seed.student for seed in fewer], texts, np.ones(1))
        for name in ("stopped", "fewer")
    ]
    assert each[0].value > each[1].value
    assert LeastReduction(each).at() == found.reduction
    assert found.reduction == pytest.approx((each[1].value, each[1].at().lower, each[1].at(0.025).upper))


def test_the_word_names_the_defence_that_is_as_good():
    """An arm that remembers much more than students on fewer texts of its perplexity do."""
    world = World(np.random.default_rng(13), 500)
    made, texts, sides = study([world.apart(0.4, gain=-0.1) for _ in range(3)])
    found = judge("nonorm", on_fewer_texts(world, made, texts), texts, sides)
    assert found.word == "no better than training on fewer texts"
    assert "is no better than training on fewer texts: -0." in found.sentence


def test_texts_without_a_score_and_clusters_are_those_of_the_attack():
    world = World(np.random.default_rng(9), 40, 4)
    points, _ = world.stopped(0.5)
    student = points[0]
    (result,) = student.results.values()
    items = tuple(
        item._replace(score=math.nan) if number in (0, 1) else item for number, item in enumerate(result.items)
    )
    lacking = Student({"a0": type(result)(**{**result.__dict__, "items": items})}, student.heldout)
    texts = texts_like(lacking)
    held = set(student.heldout.ids)
    unseen = [item.id for item in items[:2] if item.id not in held]
    assert set(texts.ids) == {item.id for item in items} - set(unseen)
    assert texts.scored.sum() == 38
    assert len(np.unique(texts.codes)) == 10
