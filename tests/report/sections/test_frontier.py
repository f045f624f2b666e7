"""Privacy at equal utility on the page: first in an arm's answer, a chart, and tables with all figures."""

from __future__ import annotations

import csv
import json
import math
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import pytest
from made_frontier import write_study
from made_page import Tags

from midistill_tasks.compare.frontier.places import Place, leak_of, places
from midistill_tasks.metrics.estimate import Estimate, Interval
from midistill_tasks.report.build import build, write
from midistill_tasks.report.machine import report_of
from midistill_tasks.report.sections.frontier import frontier_chart
from midistill_tasks.results.roles import read_group

ARMS = {"better": (0.4, 0.1), "same": (0.4, 0.0), "weak": (0.02, 0.0)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, write_output):
    folder = tmp_path_factory.mktemp("frontier")
    write_study(folder, write_output, ARMS)
    return folder


@pytest.fixture(scope="module")
def written(folder, tmp_path_factory):
    page = build(read_group([folder]))
    return page, write(page, tmp_path_factory.mktemp("report"))


def rows_of(file, name: str) -> list[dict[str, str]]:
    with (file.parent / f"{name}.csv").open(newline="") as lines:
        return list(csv.DictReader(lines))


def test_the_sentence_comes_first_and_leaking_less_than_the_teacher_second(written):
    page, _ = written
    said = {statement.about: statement.sentence for statement in page.statements}
    assert list(said) == ["vanilla", *ARMS]
    assert said["better"].startswith("better leaks less than a vanilla student of its perplexity: 0.")
    assert ". Safer: better leaks less than teacher" in said["better"].replace("Leaks less, still leaks", "Safer")
    assert "leaks less than a vanilla student of its perplexity" in said["same"] or "no better than" in said["same"]
    why = "no vanilla student is as weak. "
    assert said["weak"].startswith(f"No comparison of weak with a vanilla student of its perplexity: {why}")
    assert "vanilla student of its perplexity" not in said["vanilla"]
    assert "Against a vanilla student of their own perplexity: " in page.lead
    assert "1 no comparison (weak)" in page.lead


def test_the_tables_hold_all_figures_and_stand_in_report_json(folder, written):
    page, file = written
    rows = {row["arm"]: row for row in rows_of(file, "equal-perplexity-made")}
    assert list(rows) == list(ARMS)
    better = rows["better"]
    assert 0 < float(better["reduction of the leak_lower"]) < float(better["reduction of the leak"])
    assert (better["seeds"], better["against"]) == ("3", "stopping early")
    assert rows["weak"]["reduction of the leak"] == rows["weak"]["p"] == ""
    placed = {row["student"]: row for row in rows_of(file, "frontier-made")}
    assert list(placed) == [
        *(f"checkpoint {k}" for k in range(1, 7)),
        *(f"on {share} of the texts" for share in (0.25, 0.5)),
        *("vanilla", *ARMS),
    ]
    assert all(row["seeds"] == "3" for row in placed.values())
    assert [row["on the frontier"] for row in placed.values()] == ["yes"] * 9 + ["no"] * 3
    assert {row["arm"] for row in rows_of(file, "answers")} == {"vanilla", *ARMS}
    tables = {table.name: table for table in report_of(page, read_group([folder])).tables}
    assert len(tables["frontier-made"].rows) == 12
    assert "reduction at its perplexity" in tables["answers"].columns


def test_the_students_of_the_frontier_are_nowhere_else(folder, written):
    page, file = written
    group = read_group([folder])
    assert {model.name for model in report_of(page, group).models} == {"teacher", "vanilla", *ARMS}
    assert "Privacy at equal utility: made" in Tags(file.read_text()).words
    assert not [row for row in rows_of(file, "figures-made") if "checkpoint" in row["model"]]


def test_without_a_frontier_there_is_no_section(folder):
    group = replace(read_group([folder]), frontier=None)
    page = build(group)
    assert places(group, "made") == ()
    assert not [section for section in page.sections if "equal utility" in section.heading]
    assert "read each answer beside the model's perplexity" in page.lead
    assert "reduction at its perplexity" not in page.answers.columns


@pytest.mark.slow
def test_students_of_the_frontier_that_are_not_all_there_leave_the_rest(folder, write_output, tmp_path):
    """A seed whose students on fewer texts failed is held against stopping early alone."""
    write_study(tmp_path, write_output, {"better": ARMS["better"]})
    manifest = json.loads((tmp_path / "study.json").read_text())
    manifest["frontier"]["fewer"]["1"] = {}
    (tmp_path / "study.json").write_text(json.dumps(manifest))
    page = build(read_group([tmp_path]))
    assert page.statements[1].sentence.startswith("better leaks less than a vanilla student of its perplexity")
    samples = tmp_path / "results" / "better" / "0"
    next(samples.glob("samples_heldout*")).unlink()
    page = build(read_group([tmp_path]))
    assert (
        "not all of these students have a finite perplexity on the same held-out texts" in page.statements[1].sentence
    )


def test_an_arm_that_gives_a_held_out_text_no_probability_has_no_comparison_and_the_rest_stands(write_output, tmp_path):
    """As with a red_list that holds one of its tokens."""
    write_study(tmp_path, write_output, {"better": ARMS["better"], "listed": (0.4, 0.0)}, seeds=1, n=100)
    (samples,) = (tmp_path / "results" / "listed").rglob("samples_heldout*")
    first, *others = samples.read_text().splitlines()
    row = json.loads(first)
    row["byte_perplexity"][0] = -math.inf
    samples.write_text("\n".join([json.dumps(row), *others]) + "\n")
    said = {each.about: each.sentence for each in build(read_group([tmp_path])).statements}
    assert "not all of these students have a finite perplexity on the same held-out texts" in said["listed"]
    assert "finite perplexity" not in said["better"]


def test_a_chart_of_undefined_limits_holds_no_nan():
    nan = math.nan
    place = Place("m", "", 1, "loss", Interval(0.1, nan, nan), Estimate(1.0, nan), True)
    drawn = str(frontier_chart([place, place._replace(defence="stopped")], "m", {"m": 0}))
    assert "nan" not in drawn
    ElementTree.fromstring(drawn)  # noqa: S314 (our own)


def test_a_leak_is_0_where_one_half_lies_within_the_limits():
    assert leak_of(Interval(0.52, 0.46, 0.58)) == pytest.approx((0.02, 0, 0.08))
    assert leak_of(Interval(0.3, 0.2, 0.45)) == pytest.approx((0.2, 0.05, 0.3))
