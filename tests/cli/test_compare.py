"""`midistill compare` from folders to tables and files."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest

from midistill_tasks.cli.main import main
from midistill_tasks.compare.verdict import holm
from midistill_tasks.metrics.estimate import Estimate, Interval
from midistill_tasks.metrics.roc import delong_paired
from midistill_tasks.report.comparison import assess
from midistill_tasks.results.roles import read_group
from midistill_tasks.results.table import Table


@pytest.fixture
def outputs(tmp_path: Path, write_output, draw) -> Path:
    """Folders t (leaks), s0, s1, s2 (leak little), each with two attacks and a perplexity."""
    rng = np.random.default_rng(0)
    labels, hard = draw(rng, 400, shift=2.0)
    for name, share in (("t", 1.0), ("s0", 0.1), ("s1", 0.12), ("s2", 0.14)):
        scores = {attack: share * hard + (1 - share) * rng.normal(size=400) for attack in ("loss", "zlib")}
        utility = {"held_out": {"word_perplexity": (20 + share, "N/A", False)}}
        write_output(tmp_path / name, labels, scores, model=f"org/{name}", utility=utility)
    return tmp_path


def test_verdict_and_tables_are_printed(outputs: Path, capsys) -> None:
    assert main(["compare", str(outputs / "t"), str(outputs / "s0")]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("s0 on made: Safer: s0 leaks less than t")
    for title in ("Verdict", "AUROC ±", "TPR at a low FPR", "Teacher × student", "Agreement", "Privacy on made"):
        assert f"**{title}" in printed
    assert "Mean over seeds" not in printed
    assert "no ε: the members of made were not chosen by independent fair coins" in printed


@pytest.mark.parametrize("verb", ["compare t s0", "report t s0", "select t", "supervision t --teacher x --student x"])
def test_where_the_output_cannot_be_written_is_said_before_the_work(verb: str, outputs: Path, capsys) -> None:
    (outputs / "file").touch()
    name, *arguments = verb.split()
    placed = [str(outputs / each) if each in ("t", "s0") else each for each in arguments]
    assert main([name, *placed, "--output", str(outputs / "file" / "out")]) == 2
    said = capsys.readouterr()
    assert "Safer" not in said.out
    (line,) = [line for line in said.err.splitlines() if "cannot be written" in line]
    assert line.startswith(f"midistill {name}: --output: ")
    assert line.endswith(": give a folder that can be written")


def test_students_of_one_name_are_seeds_and_make_ensembles(outputs: Path, capsys) -> None:
    seeds = [f"vanilla={outputs / name}" for name in ("s0", "s1", "s2")]
    assert main(["compare", str(outputs / "t"), *seeds, "--ensembles"]) == 0
    printed = capsys.readouterr().out
    assert "vanilla on made: Safer: vanilla leaks less than t" in printed
    assert "(3 seeds)" in printed
    assert "vanilla, mean score on made: " in printed
    assert "vanilla, majority on made: " in printed
    assert "Mean over seeds" in printed


def test_output_holds_strict_json_markdown_and_csv(outputs: Path, tmp_path: Path, capsys) -> None:
    folder = tmp_path / "comparison"
    assert main(["compare", str(outputs / "t"), str(outputs / "s0"), "--output", str(folder)]) == 0

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    content = json.loads((folder / "comparison.json").read_text(), parse_constant=refuse)
    (found,) = content["comparisons"]
    group = read_group([outputs / "t", outputs / "s0"], "t")
    expected = assess(group.teacher.runs[0], {"s0": group.arms[0].runs})
    assert found["verdict"]["word"] == "safer"
    assert found["verdict"]["reduction"]["lower"] == expected.comparisons[0].verdict.reduction.lower
    assert found["attacks"][0]["students"][0]["predicted"]["members"].keys() >= {"both", "neither"}
    assert found["attacks"][0]["teacher"]["tpr_at_0.1pct_fpr"] == {"value": None, "stderr": None}
    assert (folder / "comparison.md").read_text() == expected.markdown
    assert {path.stem for path in folder.glob("*.csv")} == {table.name for table in expected.tables}
    rows = list(csv.DictReader((folder / "auroc.csv").open()))
    assert [row["attack"] for row in rows] == ["loss", "zlib"]
    assert float(rows[0]["teacher_auroc"]) == expected.comparisons[0].attacks[0].teacher["auroc"].value


def test_bad_input_is_one_sentence_and_status_two(outputs: Path, capsys) -> None:
    assert main(["compare", str(outputs / "t"), str(outputs / "nowhere")]) == 2
    assert "nowhere does not exist" in capsys.readouterr().err
    assert main(["compare", str(outputs / "t"), str(outputs / "s0"), str(outputs / "s0")]) == 2
    assert "is given twice" in capsys.readouterr().err
    assert main(["compare", str(outputs / "t"), str(outputs / "s0"), "--ensembles"]) == 2
    assert "no arm has several students" in capsys.readouterr().err


def test_a_folder_of_several_students_under_one_name_is_one_arm_and_the_teacher_may_have_a_name(
    outputs: Path, tmp_path: Path, capsys
) -> None:
    (outputs / "students").mkdir()
    for name in ("s0", "s1"):
        (outputs / name).rename(outputs / "students" / name)
    assert main(["compare", f"big={outputs / 't'}", f"small={outputs / 'students'}"]) == 0
    printed = capsys.readouterr().out
    assert "small leaks less than big" in printed
    assert "This speaks of these two models" in printed
    assert "| small, run 2 |" in printed
    places = [f"big={outputs / 't'}", f"small={outputs / 'students'}"]
    assert main(["report", *places, "--teacher", "big", "--output", str(tmp_path / "r")]) == 0
    assert main(["report", *places, "--teacher", "small"]) == 2
    assert "the teacher small is 2 models, not one" in capsys.readouterr().err


def test_a_student_without_scores_is_left_out_by_name(outputs: Path, write_output, capsys) -> None:
    write_output(outputs / "students" / "broken", [0, 1] * 200, {"loss": [math.nan] * 400}, model="org/broken")
    (outputs / "s0").rename(outputs / "students" / "s0")
    assert main(["compare", str(outputs / "t"), str(outputs / "students")]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("s0 on made: Safer")
    assert re.search(r"- Left out: .*broken/results_.*: no MIA task has enough scores to be judged", printed)


def test_an_epsilon_is_shown_where_coins_decided(tmp_path: Path, write_output, capsys) -> None:
    labels = np.random.default_rng(0).permutation(np.arange(1000) % 2)
    for name, share in (("t", 1.0), ("s", 0.0)):
        scores = share * labels + np.random.default_rng(1).random(1000) / 2
        write_output(tmp_path / name, labels, {"loss": scores}, model=name, independent_coins=True)
    assert main(["compare", str(tmp_path / "t"), str(tmp_path / "s")]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"\| t +\| mia_loss_made \| (3|4)\.\d+ ", printed), printed
    assert "no evidence (" in printed


def test_cells_of_a_table() -> None:
    rows = (
        (Estimate(0.5, 0.01), Interval(1.0, 0.5, 2.0), math.nan, "a|b"),
        (Estimate(0.1, math.nan), Interval(1.0, math.nan, math.nan), 0.0, 0.0),
    )
    table = Table("name", "Title", ("x", "y", "p", "text"), rows)
    assert table.markdown().splitlines()[4:6] == [
        "| 0.500 ± 0.010 | 1.000 [0.500, 2.000] | –     | a\\|b  |",
        "| 0.100         | 1.000                | 0.000 | 0.000 |",
    ]
    read = list(csv.reader(io.StringIO(table.csv())))
    assert read[0] == ["x", "x_stderr", "y", "y_lower", "y_upper", "p", "text"]
    assert read[1] == ["0.5", "0.01", "1.0", "0.5", "2.0", "", "a|b"]


def test_equals_are_compared_in_pairs_without_a_teacher(outputs: Path, capsys, tmp_path) -> None:
    names = [str(outputs / name) for name in ("t", "s0", "s1")]
    assert main(["compare", "--equals", *names, "--output", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "teacher" not in printed
    assert "Can it be told which texts these models were trained on?" in printed
    with (tmp_path / "out" / "side-by-side-all-made.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert [(row["attack"], row["first"], row["second"]) for row in rows] == [
        (attack, *pair) for pair in (("t", "s0"), ("t", "s1"), ("s0", "s1")) for attack in ("loss", "zlib")
    ]
    group = read_group(names)
    runs = [entry.runs[0].on("made")["loss"] for entry in group.entries]
    expected = delong_paired(runs[0].labels, runs[1].scores, runs[0].scores, runs[0].clusters)
    assert float(rows[0]["second − first"]) == pytest.approx(expected.diff)
    assert float(rows[0]["p (DeLong)"]) == pytest.approx(expected.p)
    adjusted = holm([float(row["p (DeLong)"]) for row in rows])
    assert [float(row["p (Holm)"]) for row in rows] == pytest.approx(adjusted)


def test_ensembles_of_equals_are_refused_and_not_left_out_silently(capsys) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["compare", "--equals", "--ensembles", "a", "b"])
    assert "--ensembles: not allowed with argument --equals" in capsys.readouterr().err
