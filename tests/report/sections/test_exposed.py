"""The most exposed texts, hidden unless asked for."""

from __future__ import annotations

import csv
import re

import numpy as np
import pytest
from made_page import Tags

from midistill_tasks.report.build import build, write
from midistill_tasks.results.reader import read_run
from midistill_tasks.results.roles import read_group


def test_texts_are_masked_unless_asked_for_and_escaped_when_shown(study, page, tmp_path):
    assert "owned" not in page.read_text()
    assert "xxxxxx" in page.read_text()
    shown = write(build(read_group([study]), show_texts=True), tmp_path)
    assert "script" not in Tags(shown.read_text()).tags
    assert "owned" in Tags(shown.read_text()).words
    assert "<script" not in (tmp_path / "report.md").read_text()


def test_beside_where_a_member_is_also_found_stands_how_many_of_all_are(study, page):
    words = Tags(page.read_text()).words
    runs = [read_run(study / "results" / f"nonorm{seed}") for seed in (0, 1)]
    votes = np.sum([task.decisions for run in runs for task in run.tasks.values()], axis=0)
    labels = runs[0].tasks["mia_loss_made"].labels
    share = np.mean(votes[labels] * 2 >= 4)
    assert re.search(rf"of all members these are \d+% in vanilla, {share:.0%} in nonorm\.", words)


@pytest.mark.parametrize(("shift", "found"), [(0.0, "no"), (2.0, "yes")])
def test_the_file_alone_says_in_each_row_whether_a_leak_was_found(shift, found, draw, write_output, tmp_path):
    labels, scores = draw(np.random.default_rng(5), 400, shift)
    write_output(tmp_path / "results", labels, {"loss": scores})
    write(build(read_group([tmp_path / "results"])), tmp_path / "report")
    rows = list(csv.DictReader((tmp_path / "report" / "exposed-made.csv").open(encoding="utf-8")))
    assert len(rows) == 200
    assert {row["leak_found"] for row in rows} == {found}
    assert any(row["found_by"] for row in rows)


def test_no_leak_is_in_the_file_where_the_page_s_answer_does_not_hold_among_all(draw, write_output, tmp_path):
    labels, scores = draw(np.random.default_rng(10), 400, 0.21)  # p 0.034 alone
    silent = np.random.default_rng(11).normal(size=400)
    for name, each in (("a", scores), ("b", silent)):
        write_output(tmp_path / name, labels, {"loss": each}, name, independent_coins=True)
    for models, word, found in ((["a"], "leaks", "yes"), (["a", "b"], "undecided", "no")):
        page = build(read_group([tmp_path / name for name in models]))
        write(page, tmp_path / "report")
        rows = list(csv.DictReader((tmp_path / "report" / "exposed-made.csv").open(encoding="utf-8")))
        assert (page.statements[0].word, {row["leak_found"] for row in rows}) == (word, {found})


def test_where_a_member_is_also_found_is_not_none_for_models_that_the_page_has_no_room_for(
    draw, write_output, tmp_path
):
    rng = np.random.default_rng(5)
    labels, scores = draw(rng, 60, 4.0)
    for number in range(11):
        found = scores if number in (0, 10) else rng.normal(size=60)
        write_output(tmp_path / "r" / f"m{number:02d}", labels, {"loss": found}, f"m{number:02d}")
    page = build(read_group([tmp_path / "r"]))
    write(page, tmp_path)
    rows = list(csv.DictReader((tmp_path / "exposed-made.csv").open(encoding="utf-8")))
    assert rows[0]["found_by"] == "loss"
    assert "m10" in rows[0]["also_found_in"].split(", ")
    words = Tags((tmp_path / "index.html").read_text()).words
    assert "Also found in: of the first 8 other models those in which at least half" in words
    assert "Every member stands in exposed-made.csv beside this page, with all 10 other models." in words


def test_of_an_arm_of_several_students_it_is_said_whose_texts_are_listed(draw, write_output, tmp_path):
    labels, scores = draw(np.random.default_rng(5), 60, 4.0)
    for number in (0, 1):
        write_output(tmp_path / str(number), labels, {"loss": scores}, f"m{number}")
    page = build(read_group([f"arm={tmp_path / '0'}", f"arm={tmp_path / '1'}"]))
    assert "The 20 most exposed members under arm, run 1" in [table.title for table in page.tables]
