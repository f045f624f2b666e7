"""Many answers as a table, what they share said once, and the perplexity beside each."""

from __future__ import annotations

import csv
from dataclasses import replace

import numpy as np
import pytest
from made_page import Tags

from midistill_tasks.report import answers
from midistill_tasks.report.build import build, write
from midistill_tasks.report.page import Statement
from midistill_tasks.results.roles import read_group


def test_three_arms_are_a_table_with_their_figures_and_what_all_say_is_said_once(three_arms):
    with (three_arms.parent / "answers.csv").open(newline="") as lines:
        rows = {row["arm"]: row for row in csv.DictReader(lines)}
    assert set(rows) == {"vanilla", "nonorm", "again"}
    assert [rows[arm]["answer"] for arm in ("vanilla", "nonorm")] == ["leaks less, still leaks", "safer"]
    row = rows["vanilla"]
    assert float(row["leak reduction_lower"]) < float(row["leak reduction"]) < float(row["leak reduction_upper"])
    perplexities = [float(row[name]) for name in ("word perplexity on heldout_made", "of teacher")]
    assert perplexities == [30.0, 20.0]
    assert row["strongest on teacher, AUROC"].startswith("mink 0.")
    words = " ".join(Tags(three_arms.read_text()).words.split())
    assert words.count("one seed proves nothing") == 1
    assert "Safer: nonorm leaks less than teacher" in words, "each answer in words is folded below the table"


def test_two_answers_stand_as_they_are_with_the_perplexity_beside_them(page):
    words = " ".join(Tags(page.read_text()).words.split())
    assert "word perplexity on heldout_made: 30.500; teacher 20.000" in words
    assert "word perplexity on heldout_made: 50.500; teacher 20.000" in words
    assert "The answers, in one table" not in words
    assert not (page.parent / "answers.csv").exists()
    assert "teacher 20.000)" in (page.parent / "report.md").read_text()


def test_models_side_by_side_are_a_table_too_also_where_one_has_no_perplexity(write_output, draw, tmp_path):
    labels, scores = draw(np.random.default_rng(1), 100, 2.0)
    for name in ("a", "b", "c"):
        held_out = {"heldout_made": {"byte_perplexity": (3.0, "N/A", False)}} if name != "c" else None
        write_output(tmp_path / name, labels, {"loss": scores}, name, utility=held_out)
    page = write(build(read_group([tmp_path])), tmp_path / "out")
    with (page.parent / "answers.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert [row["perplexity"] for row in rows] == ["byte perplexity on heldout_made: 3.000"] * 2 + ["–"]
    assert {(row["answer"], row["strongest attack"]) for row in rows} == {("leaks", "loss")}
    assert [float(row["auroc"]) for row in rows] == pytest.approx([0.93] * 3, abs=0.05)


def test_a_sentence_is_shared_only_where_every_answer_has_it():
    said = [Statement(name, "safer", f"Safer: {name} leaks 0.1 less. Of one seed. Of texts.") for name in "abc"]
    assert answers.common(said) == "Of one seed. Of texts."
    assert [each.sentence for each in answers.without(said, "Of one seed. Of texts.")] == [
        f"Safer: {name} leaks 0.1 less." for name in "abc"
    ]
    assert answers.common([*said[:2], replace(said[2], sentence="Of texts.")]) == "Of texts."
    assert answers.common(said[:1]) == ""
    assert answers.without(said, "") == tuple(said)
