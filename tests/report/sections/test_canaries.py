"""What the page says of planted canaries: what is proven and what is not, and figures by number of repeats."""

from __future__ import annotations

import csv
import math
from dataclasses import replace

import numpy as np
import pytest
from made_page import Tags

from midistill_tasks.compare.canaries import by_repeats
from midistill_tasks.compare.epsilon import epsilon
from midistill_tasks.metrics.epsilon import epsilon_lower_bound
from midistill_tasks.metrics.exposure import exposure
from midistill_tasks.metrics.roc import auroc
from midistill_tasks.report.build import build, write
from midistill_tasks.results.reader import read_run
from midistill_tasks.results.roles import read_group

ABOUT = {"independent_coins": True, "coins_after": ""}


@pytest.fixture
def audited(write_output, tmp_path):
    """``audited(scores)``: results of 600 canaries, of groups 1, 4 and 16 alike; ``scores(rng, labels, groups)``."""

    def audited(make, split="canaries", attack="loss"):
        rng = np.random.default_rng(3)
        labels, groups = rng.integers(0, 2, 600), np.tile([1, 4, 16], 200)
        path = write_output(tmp_path / "m", labels, {attack: make(rng, labels, groups)}, "m", split=split, **ABOUT)
        samples = next(path.parent.glob("samples_*"))
        lines = samples.read_text().splitlines()
        with_groups = (
            line.replace('"cluster"', f'"group": "{group}", "cluster"')
            for line, group in zip(lines, groups, strict=True)
        )
        samples.write_text("\n".join(with_groups) + "\n")
        return tmp_path / "m"

    return audited


def leaking(rng, labels, groups):
    return rng.normal(size=600) + labels * np.log2(groups)


def silent(rng, labels, groups):
    return rng.normal(size=600)


def words_of(folder, out):
    page = write(build(read_group([folder])), out)
    return " ".join(Tags(page.read_text(encoding="utf-8")).words.split())


def test_what_is_proven_and_what_is_not_stand_in_plain_words(audited, tmp_path):
    folder = audited(leaking)
    words = words_of(folder, tmp_path / "out")
    bound = epsilon(read_run(folder).tasks["mia_loss_canaries"])
    assert bound.value > 1
    assert (
        "Proven of m: with 95 % confidence, no training of this kind can be (ε, 0)-differentially private with ε "
        f"below {math.floor(100 * bound.value) / 100:.2f}, since {bound.correct} of {bound.guesses} guesses by"
    ) in words
    assert "A canary counts as one here, with all its repeats." in words
    assert "What is not proven: that a model is private." in words


def test_a_reference_must_not_have_seen_the_canaries(audited, tmp_path):
    words = words_of(audited(leaking, attack="ref"), tmp_path / "out")
    assert "This is valid if the reference model saw none of these texts." in words


def test_nothing_is_proven_where_nothing_is_found(audited, tmp_path):
    words = words_of(audited(silent), tmp_path / "out")
    assert "Of m nothing is proven about ε:" in words
    assert "Proven of m" not in words


def test_the_figures_by_repeats_are_those_of_each_group_and_hold_together(audited, tmp_path):
    folder = audited(leaking)
    words_of(folder, tmp_path / "out")
    with (tmp_path / "out" / "repeats_canaries.csv").open(newline="", encoding="utf-8") as lines:
        rows = {int(row["repeats"]): row for row in csv.DictReader(lines)}
    result = read_run(folder).tasks["mia_loss_canaries"]
    for repeats, row in rows.items():
        items = [item for item in result.items if result.groups[item.id] == str(repeats)]
        labels, scores = [item.label for item in items], [item.score for item in items]
        assert len(items) == int(row["inserted"]) + int(row["held out"]) == 200
        assert float(row["auroc"]) == pytest.approx(auroc(labels, scores))
        assert float(row["exposure, bits"]) == pytest.approx(exposure(items).value)
        rising = [label for _, label in sorted(zip(scores, labels, strict=True))]
        right = rising[:20].count(0) + rising[-20:].count(1)
        assert row["right guesses"] == f"{right}/40"
        expected = epsilon_lower_bound(right, 40, 1 - 0.05 / 3)
        assert float(row["ε of a canary, at least"]) == pytest.approx(expected)
        assert float(row["ε of a line, at least"]) == pytest.approx(expected / repeats)
    assert list(rows) == [1, 4, 16]
    assert float(rows[16]["auroc"]) > float(rows[4]["auroc"]) > float(rows[1]["auroc"])


def test_groups_that_know_nothing_of_their_coins_are_rarely_more_than_they_are(make_task, make_run):
    """In how many of 200 audits of a private training any of the three bounds of a page is above 0: 10 on average."""
    rng, above = np.random.default_rng(8), 0
    for _ in range(200):
        task = make_task(rng.integers(0, 2, 450), rng.normal(size=450), split="canaries", **ABOUT)
        names = [str(3 ** (n % 3)) for n in range(450)]
        task = replace(task, groups={item.id: name for item, name in zip(task.items, names, strict=True)})
        (groups,) = by_repeats([make_run("m", task)], "canaries")
        assert [group.repeats for _, group in groups] == [1, 3, 9]
        above += any(group.epsilon.value > 0 for _, group in groups)
    assert above <= 17  # more has a chance of 1 in 50


def test_a_small_group_has_no_bound_and_other_splits_no_section(audited, make_task, make_run, tmp_path):
    task = make_task([1, 0] * 100, np.arange(200.0), split="canaries", **ABOUT)
    task = replace(task, groups={item.id: "1" if n < 150 else "2" for n, item in enumerate(task.items)})
    ((_, large), (_, small)) = by_repeats([make_run("m", task)], "canaries")[0]
    assert not math.isnan(large.epsilon.value)
    assert "fewer than 100 texts" in small.epsilon.reason
    assert "What the planted canaries prove" not in words_of(audited(leaking, split="made"), tmp_path / "out")
