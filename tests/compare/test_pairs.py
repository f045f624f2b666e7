"""Teacher against student: texts are matched by id, and what cannot be compared is refused with the counts."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from midistill_tasks.compare.pairs import compare
from midistill_tasks.errors import InputError
from midistill_tasks.metrics.roc import auroc, delong_paired
from midistill_tasks.results.matching import skip_notes, version_notes
from midistill_tasks.results.reader import read_run
from midistill_tasks.results.run import FIGURES


@pytest.fixture
def scored(draw):
    """Labels, the teacher's scores, and those of a student."""
    rng = np.random.default_rng(1)
    labels, scores = draw(rng, 120, shift=1.2)
    return labels, scores, scores * 0.3 + rng.normal(size=120)


def test_every_attack_has_the_figures_of_both_and_delongs_test_of_the_difference(make_task, make_run, scored) -> None:
    labels, first, second = scored
    teacher = make_run("T", make_task(labels, first), make_task(labels, second, attack="zlib"))
    student = make_run("S", make_task(labels, second), make_task(labels, first, attack="zlib"))
    (found,) = compare(teacher, {"arm": [student]})
    assert (found.split, found.teacher, found.arm) == ("made", "T", "arm")
    assert (found.members, found.nonmembers) == (60, 60)
    assert [one.attack for one in found.attacks] == ["loss", "zlib"]
    loss = found.attacks[0]
    assert loss.teacher == teacher.on("made")["loss"].measured
    assert loss.students[0].figures == student.on("made")["loss"].measured
    assert loss.students[0].paired == delong_paired(labels, second, first)
    assert list(loss.means) == list(FIGURES)


def test_p_values_are_adjusted_by_holm_over_the_attacks_on_a_student(make_task, make_run, scored) -> None:
    labels, first, second = scored
    noisy = [first, second, first - second, -first]
    names = ["loss", "zlib", "mink", "minkpp"]
    teacher = make_run("T", *(make_task(labels, first, attack=name) for name in names))
    student = make_run("S", *(make_task(labels, one, attack=name) for name, one in zip(names, noisy, strict=True)))
    (found,) = compare(teacher, {"arm": [student]})
    raw = {one.attack: one.students[0].paired.p for one in found.attacks}
    highest = 0.0
    for rank, name in enumerate(sorted(raw, key=raw.__getitem__)):
        highest = max(highest, min(1.0, raw[name] * (len(raw) - rank)))
        (adjusted,) = (one.students[0].p_holm for one in found.attacks if one.attack == name)
        assert adjusted == pytest.approx(highest)


def test_texts_are_matched_by_id_never_by_position(tmp_path, write_output, scored) -> None:
    labels, first, second = scored
    ids = [f"{n:016x}" for n in range(len(labels))]
    write_output(tmp_path / "t", labels, {"loss": first}, model="T")
    order = np.random.default_rng(0).permutation(len(ids))
    write_output(tmp_path / "s", labels, {"loss": second}, model="S", ids=ids)
    write_output(tmp_path / "x", labels[order], {"loss": second[order]}, model="S", ids=[ids[i] for i in order])
    teacher, straight, shuffled = (read_run(tmp_path / name) for name in "tsx")
    # by repr, since some figures are NaN
    assert repr(compare(teacher, {"arm": [shuffled]})) == repr(compare(teacher, {"arm": [straight]}))


def test_different_texts_are_refused_with_the_counts(make_task, make_run, scored) -> None:
    labels, first, _ = scored
    whole, part = make_task(labels, first), make_task(labels[:100], first[:100])
    with pytest.raises(InputError, match=r"T was attacked on 120 texts and S on 100; 100 are the same, 0 of them"):
        compare(make_run("T", whole), {"arm": [make_run("S", part)]})
    other = make_task(1 - labels, first)
    with pytest.raises(InputError, match="120 are the same, 120 of them with another label"):
        compare(make_run("T", whole), {"arm": [make_run("S", other)]})


def test_different_splits_and_attacks_are_refused_with_their_names(make_task, make_run, scored) -> None:
    labels, first, _ = scored
    teacher = make_run("T", make_task(labels, first))
    with pytest.raises(InputError, match=r"different splits \(T: made; S: other\)"):
        compare(teacher, {"arm": [make_run("S", make_task(labels, first, split="other"))]})
    with pytest.raises(InputError, match=r"no attack on made ran on all .*T: loss; S: zlib"):
        compare(teacher, {"arm": [make_run("S", make_task(labels, first, attack="zlib"))]})


def test_different_options_and_versions_are_refused(make_task, make_run, scored) -> None:
    labels, first, _ = scored
    one, other = make_task(labels, first, attack="mink"), make_task(labels, first, attack="mink")
    other = replace(other, metadata={**other.metadata, "options": {**other.metadata["options"], "k": 0.3}})
    with pytest.raises(InputError, match=r"mia_mink_made: the option 'k' was 0.2 for T and 0.3 for S"):
        compare(make_run("T", one), {"arm": [make_run("S", other)]})
    with pytest.raises(InputError, match=r"mia_mink_made is of version 1.0 for T and 0.9 for S"):
        compare(make_run("T", one), {"arm": [make_run("S", replace(one, version="0.9"))]})


def test_likelihoods_of_another_kind_are_refused(make_task, make_run, scored) -> None:
    labels, first, _ = scored
    one, other = make_task(labels, first), make_task(labels, first, likelihood="pseudo-log-likelihood (positions: all)")
    with pytest.raises(
        InputError, match=r"of a log-likelihood for T and of a pseudo-log-likelihood \(positions: all\) for S"
    ):
        compare(make_run("T", one), {"arm": [make_run("S", other)]})
    compare(make_run("T", other), {"arm": [make_run("S", other)]})


def test_an_option_that_the_attack_does_not_read_may_differ(make_task, make_run, scored) -> None:
    labels, first, second = scored
    other = make_task(labels, second)
    other = replace(other, metadata={**other.metadata, "options": {**other.metadata["options"], "k": 0.3}})
    assert compare(make_run("T", make_task(labels, first)), {"arm": [make_run("S", other)]})


def test_left_out_attacks_and_other_versions_of_packages_are_noted(make_task, make_run, scored) -> None:
    labels, first, second = scored
    teacher = make_run("T", make_task(labels, first), make_task(labels, first, attack="zlib"))
    skipped = {"mia_ref_made": "needs a reference model"}
    student = make_run("S", make_task(labels, second), versions={"numpy": "1"}, skipped=skipped)
    (found,) = compare(teacher, {"arm": [student]})
    assert found.notes == ("zlib is left out: it ran on T only",)
    runs = [teacher, student]
    assert version_notes(runs) == ["The versions of numpy differ (2 for T, 1 for S)"]
    assert skip_notes(runs) == ["No figures for mia_ref_made on S: needs a reference model"]


def test_texts_without_a_score_are_left_out_and_counted(make_task, make_run, scored) -> None:
    labels, first, second = scored
    first, second = first.copy(), second.copy()
    first[:3], second[2:6] = math.nan, math.nan
    (found,) = compare(make_run("T", make_task(labels, first)), {"arm": [make_run("S", make_task(labels, second))]})
    (student,) = found.attacks[0].students
    assert student.unscored == 6
    assert sum(student.predicted.all) == 114
    assert student.paired == delong_paired(labels[6:], second[6:], first[6:])


def test_every_figure_of_a_comparison_is_of_the_texts_that_all_models_have_a_score_for(
    make_task, make_run, scored
) -> None:
    labels, first, second = scored
    first, second, third = first.copy(), second.copy(), second + 1.0
    first[:3], second[2:6] = math.nan, math.nan
    runs = {name: make_run(name, make_task(labels, own)) for name, own in (("T", first), ("S", second), ("U", third))}
    (found,) = compare(runs["T"], {"arm": [runs["S"], runs["U"]]})
    (loss,) = found.attacks
    assert loss.teacher["auroc"].value == auroc(labels[6:], first[6:])
    assert [one.figures["auroc"].value for one in loss.students] == [
        auroc(labels[6:], own[6:]) for own in (second, third)
    ]
    leaks = [abs(auroc(labels[6:], own[6:]) - 0.5) for own in (first, second)]
    assert found.verdict.reduction.value == pytest.approx(leaks[0] - leaks[1])
    assert found.notes == (
        "6 of the 120 texts lack a score in one of the models, so verdict, paired tests and matrices leave them out",
    )


def test_a_reduction_between_two_attacks_is_of_the_same_texts_too(make_task, make_run, scored) -> None:
    labels, first, second = scored
    holes = second.copy()
    holes[::3] = math.nan
    teacher = make_run("T", make_task(labels, first), make_task(labels, second, attack="zlib"))
    student = make_run("S", make_task(labels, second), make_task(labels, holes, attack="zlib"))
    (found,) = compare(teacher, {"arm": [student]})
    assert all(one.students[0].unscored == 40 for one in found.attacks)
    reduction = found.verdict.reduction
    assert reduction.lower <= reduction.value <= reduction.upper


def test_an_attack_that_lacks_most_scores_is_left_out_and_leaves_the_others_alone(make_task, make_run, scored) -> None:
    labels, first, second = scored
    odd, even = second.copy(), second.copy()
    odd[::2], even[1::2] = math.nan, math.nan  # each has its half, together none
    zlib = make_task(labels, first, attack="zlib")
    runs = [make_run(name, make_task(labels, own), zlib) for name, own in (("T", first), ("U", odd), ("V", even))]
    (found,) = compare(runs[0], {"arm": runs[1:]})
    assert [one.attack for one in found.attacks] == ["zlib"]
    assert found.notes == ("loss is left out: more than half of the texts lack a score",)
    for run in runs:
        del run.tasks["mia_zlib_made"]
    with pytest.raises(InputError, match=r"made: more than half of the texts lack a score .*\(T, U and V\)"):
        compare(runs[0], {"arm": runs[1:]})


def test_seeds_are_averaged_for_other_texts_and_other_seeds(make_task, make_run, scored) -> None:
    labels, first, second = scored
    rng = np.random.default_rng(2)
    students = [make_run(f"S{n}", make_task(labels, second + rng.normal(size=120))) for n in range(3)]
    (found,) = compare(make_run("T", make_task(labels, first)), {"arm": students})
    (loss,) = found.attacks
    areas = [one.figures["auroc"].value for one in loss.students]
    assert loss.means["auroc"].value == pytest.approx(sum(areas) / 3)
    single = [one.limits["auroc"] for one in loss.students]
    width = loss.means["auroc"].upper - loss.means["auroc"].lower
    assert 0.5 < width / np.mean([one.upper - one.lower for one in single]) < 1.3
    assert math.isnan(loss.means["tpr_at_1pct_fpr"].lower)


def test_every_arm_and_split_has_its_comparison(make_task, make_run, scored) -> None:
    labels, first, second = scored
    runs = [
        make_run(name, *(make_task(labels, scores, split=split) for split in ("a", "b")))
        for name, scores in (("T", first), ("S", second))
    ]
    found = compare(runs[0], {"x": [runs[1]], "y": [runs[1]]})
    assert [(one.arm, one.split) for one in found] == [("x", "a"), ("x", "b"), ("y", "a"), ("y", "b")]


def test_an_arm_without_students_is_refused(make_task, make_run, scored) -> None:
    labels, first, _ = scored
    with pytest.raises(InputError, match="the arm 'empty' has no student"):
        compare(make_run("T", make_task(labels, first)), {"empty": []})
