"""Ensembles of students are runs like any other."""

from __future__ import annotations

import math

import numpy as np
import pytest

from midistill_tasks.compare.ensemble import decided, majority, mean_score
from midistill_tasks.compare.pairs import compare, compare_ensembles
from midistill_tasks.compare.verdict import seeds_areas
from midistill_tasks.errors import InputError
from midistill_tasks.metrics.thresholds import accuracies


@pytest.fixture
def students(make_task, make_run, draw):
    """Three students with noisy scores of the same 100 texts; one text lacks a score in the second."""
    rng = np.random.default_rng(0)
    labels, scores = draw(rng, 100, shift=1.0)
    made = [scores + rng.normal(size=100) for _ in range(3)]
    made[1][7] = math.nan
    return [make_run(f"S{n}", make_task(labels, one)) for n, one in enumerate(made)]


def test_the_mean_score_is_the_mean_and_missing_where_one_is_missing(students) -> None:
    combined = mean_score(students).on("made")["loss"]
    for number, item in enumerate(combined.items):
        own = [run.on("made")["loss"].items[number] for run in students]
        assert {(one.id, one.label, one.cluster) for one in own} == {(item.id, item.label, item.cluster)}
        expected = sum(one.score for one in own) / 3
        assert item.score == pytest.approx(expected) or (math.isnan(expected) and math.isnan(item.score))
    assert math.isnan(combined.items[7].score)


def test_the_majority_decides_by_the_students_own_cross_fitted_decisions(students) -> None:
    combined = majority(students).on("made")["loss"]
    votes = [[bool(run.on("made")["loss"].decisions[number]) for run in students] for number in range(100)]
    assert combined.decisions.tolist() == [sum(vote) >= 2 for vote in votes]
    assert all(
        item.score == pytest.approx(sum(vote) / 3)
        for item, vote in zip(combined.items, votes, strict=True)
        if not math.isnan(item.score)
    )
    right = [
        called == bool(item.label)
        for item, called in zip(combined.items, combined.decisions, strict=True)
        if item.label == 1 and not math.isnan(item.score)
    ]
    assert combined.measured["member_acc"].value == pytest.approx(sum(right) / len(right))


def test_a_tie_of_two_is_no_majority(make_task, make_run) -> None:
    labels = [1, 0] * 20
    sharp = make_task(labels, [float(label) for label in labels])
    blunt = make_task(labels, [0.0] * 40)
    assert sharp.decisions.sum() == 20
    assert not majority([make_run("A", sharp), make_run("B", blunt)]).on("made")["loss"].decisions.any()


def test_an_ensemble_goes_through_the_same_comparison(students, make_task, make_run) -> None:
    labels = students[0].on("made")["loss"].labels
    teacher = make_run("T", make_task(labels, labels.astype(float)))
    found = compare(teacher, {"mean": [mean_score(students)], "vote": [majority(students)]})
    assert [one.attacks[0].students[0].model for one in found] == [
        "ensemble of 3 (mean score)",
        "ensemble of 3 (majority)",
    ]
    assert found[1].attacks[0].students[0].predicted.members.teacher_only > 0


def test_what_is_no_ensemble_is_refused(students, make_task, make_run) -> None:
    with pytest.raises(InputError, match="at least two students, not 1"):
        mean_score(students[:1])
    labels, scores = students[0].on("made")["loss"].labels, students[0].on("made")["loss"].scores
    with pytest.raises(InputError, match="no MIA task in common"):
        majority([students[0], make_run("Z", make_task(labels, scores, attack="zlib"))])
    with pytest.raises(InputError, match="S0 was attacked on 100 texts and Z on 50"):
        majority([students[0], make_run("Z", make_task(labels[:50], scores[:50]))])


def test_an_ensemble_of_the_teacher_itself_is_not_safer_than_it(make_task, make_run, draw) -> None:
    labels, scores = draw(np.random.default_rng(1), 200, shift=1.0)
    copies = [make_run(name, make_task(labels, scores)) for name in "TABC"]
    for one in compare_ensembles(copies[0], {"copies": copies[1:]}):
        assert one.verdict.word == "not safer", one.arm
        assert one.verdict.reduction.value == pytest.approx(0.0)


@pytest.mark.parametrize("students", [1, 3])
def test_the_error_of_decisions_allows_for_their_thresholds(make_task, make_run, draw, students):
    """Thresholds and signs are learnt from other texts' labels; DeLong's error alone misses in one case in six."""
    rng, areas = np.random.default_rng(2), []
    for _ in range(100):
        labels, scores = draw(rng, 400, shift=0.2)
        runs = [make_run("S", make_task(labels, scores + 0.2 * rng.normal(size=400))) for _ in range(students)]
        voted = (majority(runs) if students > 1 else decided(runs[0])).on("made")["loss"]
        areas.append(seeds_areas([voted]))
    values = np.array([area.values[0] for area in areas])
    errors = np.sqrt([area.covariance[0, 0] for area in areas])
    assert np.mean(abs(values - values.mean()) > 1.96 * errors) <= 0.09
    assert values.std() < 1.1 * np.sqrt(np.mean(errors**2))


def test_the_accuracies_of_a_vote_allow_for_the_thresholds_of_its_voters(make_task, make_run, draw):
    """Their binomial errors, which take the decisions as given, are two and a half times too small here."""
    rng, found = np.random.default_rng(3), []
    for _ in range(40):
        labels, scores = draw(rng, 200, shift=0.4)
        runs = [make_run("S", make_task(labels, scores + 0.3 * rng.normal(size=200))) for _ in range(3)]
        voted = majority(runs).on("made")["loss"]
        found.append((*voted.measured["member_acc"], accuracies(voted.items, voted.decisions).member.stderr))
    values, errors, binomial = np.array(found).T
    assert values.std() < 1.2 * np.sqrt(np.mean(errors**2))
    assert values.std() > 1.8 * np.sqrt(np.mean(binomial**2))
