"""From folders to the page, its Markdown and its CSV."""

from __future__ import annotations

import csv
import errno
import json

import numpy as np
import pytest
from made_page import Tags

from midistill_tasks.cli.main import main
from midistill_tasks.errors import InputError
from midistill_tasks.report.build import build, write
from midistill_tasks.results.reader import read_run
from midistill_tasks.results.roles import read_group


def test_every_part_is_there_and_nothing_is_fetched(page):
    found = Tags(page.read_text())
    parts = ("How well each attack works", "Privacy and utility", "more closely", "Which texts", "most exposed")
    for heading in (
        *parts,
        "Interventions and their controls",
        "Ensembles of students",
        "Where these figures come from",
    ):
        assert heading in found.words
    assert found.tags.count("svg") == 3 + 3 + 2  # intervals, trade, ROC; a histogram a model; matrices an arm
    assert not {"script", "img", "iframe", "object"} & set(found.tags)
    sources = [value for name, value in found.attributes if name in ("src", "href", "xlink:href")]
    assert sources == ["data:,"]
    assert "http" not in page.read_text().replace("http://www.w3.org", "")


def test_a_disk_that_gets_full_leaves_the_page_that_was_there(study, tmp_path, monkeypatch):
    made = build(read_group([study]))
    before = write(made, tmp_path).read_bytes()

    def full(path, content):
        path.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(InputError, match=r"index\.html cannot be written \(No space left on device\): free some space"):
        write(made, tmp_path)
    assert (tmp_path / "index.html").read_bytes() == before
    assert not [path for path in tmp_path.iterdir() if path.stat().st_size == 0]


def test_csv_rows_are_as_wide_as_their_header(page):
    files = sorted(page.parent.glob("*.csv"))
    assert len(files) >= 10
    for path in files:
        with path.open(newline="") as lines:
            widths = {len(row) for row in csv.reader(lines)}
        assert len(widths) == 1, path.name


def test_the_figures_in_the_csv_are_those_of_the_samples(study, page):
    run = read_run(study / "results" / "teacher")
    with (page.parent / "figures-made.csv").open(newline="") as lines:
        row = next(row for row in csv.DictReader(lines) if row["model"] == "teacher" and row["attack"] == "loss")
    assert float(row["auroc"]) == pytest.approx(run.tasks["mia_loss_made"].measured["auroc"].value)


def test_one_model_alone_gives_a_page(write_output, draw, tmp_path, capsys):
    labels, scores = draw(np.random.default_rng(1), 200, 2.0)
    write_output(tmp_path / "results" / "m", labels, {"loss": scores}, "org/some-model")
    assert main(["report", str(tmp_path / "results"), "--output", str(tmp_path / "out")]) == 0
    words = Tags((tmp_path / "out" / "index.html").read_text()).words
    caught = "at 1 false accusation in 100 non-members"
    assert f"Can it be told which texts this model was trained on? Yes: {caught}" in words
    assert "treat the most exposed ones" in words
    assert "the chance that a random member scores above a random non-member: 0.5 is a coin" in words
    assert "share no perplexity" in words
    assert str(tmp_path / "out" / "index.html") in capsys.readouterr().out


def test_texts_without_a_score_or_without_words_leave_no_hole(write_output, draw, tmp_path):
    labels, scores = draw(np.random.default_rng(9), 200, 1.0)
    gaps = scores.copy()
    gaps[::7] = np.nan
    write_output(tmp_path / "t", labels, {"loss": scores, "mink": gaps}, "t", text=None)
    write_output(tmp_path / "s", labels, {"loss": gaps, "mink": scores}, "s", text=None)
    page = write(build(read_group([tmp_path], "t"), show_texts=True), tmp_path / "out")
    words = Tags(page.read_text()).words
    assert "(the run kept no texts)" in words
    assert "Up to 29 of these texts have no score under an attack and do not count there." in words
    assert "nan" not in words


@pytest.mark.parametrize("split", ["../../elsewhere", "..\\elsewhere", "a/b", "a\0b"])
def test_the_name_of_a_split_leads_to_no_other_folder(write_output, draw, tmp_path, split):
    labels, scores = draw(np.random.default_rng(1), 60)
    path = write_output(tmp_path / "r", labels, {"loss": scores})
    content = json.loads(path.read_text())
    content["configs"]["mia_loss_made"]["metadata"]["midistill"]["split"] = split
    path.write_text(json.dumps(content))
    before = set(tmp_path.rglob("*"))
    page = build(read_group([tmp_path / "r"]))
    write(page, tmp_path / "out" / "page")
    made = set(tmp_path.rglob("*")) - before - {tmp_path / "out", tmp_path / "out" / "page"}
    assert {file.parent for file in made} == {tmp_path / "out" / "page"}
    assert len(made) == 2 + len({table.name for table in page.files})


@pytest.mark.slow
def test_fifty_models_fit_on_one_page(write_output, draw, tmp_path):
    labels, scores = draw(np.random.default_rng(4), 60, 1.0)
    for number in range(50):
        attacks = {"loss": scores + number, "ref": np.full(60, np.nan)}
        write_output(tmp_path / "r" / f"m{number}", labels, attacks, f"org/m{number}")
    for teacher in (None, "m7"):
        warnings = build(read_group([tmp_path / "r"], teacher)).warnings
        assert len([warning for warning in warnings if "mia_ref_made" in warning]) == 1
    page = write(build(read_group([tmp_path / "r"], teacher="m7")), tmp_path / "out")
    words = Tags(page.read_text()).words
    assert "m7 and 49 others" in words
    assert "42 others" in words


def test_a_student_without_the_teacher_s_strongest_attack_gives_a_page(write_output, draw, tmp_path):
    rng = np.random.default_rng(5)
    labels, scores = draw(rng, 60)
    write_output(tmp_path / "t", labels, {"loss": scores, "mink": scores + 3 * labels}, "org/t")
    write_output(tmp_path / "s", labels, {"loss": scores + rng.normal(size=60)}, "org/s")
    page = build(read_group([tmp_path], "t"))
    assert any("mink is left out: it ran on t only" in warning for warning in page.warnings)


def test_models_on_different_texts_are_refused_beside_a_teacher_and_warned_of_without_one(write_output, draw, tmp_path):
    labels, scores = draw(np.random.default_rng(7), 100)
    write_output(tmp_path / "t", labels, {"loss": scores}, "t")
    write_output(tmp_path / "s", labels[:80], {"loss": scores[:80]}, "s")
    with pytest.raises(InputError, match="100 texts and s on 80"):
        build(read_group([tmp_path], "t"))
    assert any("different texts" in warning for warning in build(read_group([tmp_path])).warnings)


def test_a_model_without_a_usable_score_does_not_end_the_page_of_the_others(write_output, draw, tmp_path):
    labels, scores = draw(np.random.default_rng(4), 60)
    write_output(tmp_path / "good", labels, {"loss": scores}, "good")
    write_output(tmp_path / "broken", labels, {"loss": np.full(60, np.nan)}, "broken")
    page = build(read_group([tmp_path]))
    assert page.title == "Membership audit: good"
    assert "mia_loss_made: the scores are NaN" in page.warnings[0]
    with pytest.raises(InputError, match="no MIA task has enough scores"):
        read_group([tmp_path / "broken"])
