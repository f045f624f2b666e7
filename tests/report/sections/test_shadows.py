"""The section of shadow models: figures of its own, and no word of the page is made of them."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest

from midistill_tasks.compare.shadows.attacks import shadow_attacks
from midistill_tasks.report.build import build, write
from midistill_tasks.results.reader import read_run
from midistill_tasks.results.roles import read_group

N = 300


@pytest.fixture(scope="module")
def with_shadows(tmp_path_factory, write_output):
    """A study's folder: a teacher and an arm of two students, with six shadows of the teacher and five of the arm."""
    folder, rng = tmp_path_factory.mktemp("study"), np.random.default_rng(4)
    hard, members = rng.normal(-4, 1, N), rng.random(N) < 0.5

    def model(place: str, seen: np.ndarray, shift: float) -> str:
        scores = np.minimum(hard + shift * seen + rng.normal(0, 0.15, N), -0.01)
        path = write_output(folder / place, seen.astype(int), {"loss": scores, "mink": scores - 1}, f"models/{place}")
        return str(path.parent.relative_to(folder))

    def shadows(name: str, count: int, shift: float) -> list[str]:
        return [model(f"shadows/{n}/results/{name}", rng.random(N) < 0.5, shift) for n in range(count)]

    manifest = {
        "teacher": model("results/teacher", members, 0.4),
        "arms": {"vanilla": {str(seed): model(f"results/vanilla/{seed}", members, 0.2) for seed in (0, 1)}},
        "shadows": {"teacher": shadows("teacher", 6, 0.4), "vanilla": shadows("vanilla", 5, 0.2)},
    }
    (folder / "study.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture(scope="module")
def page(with_shadows):
    return build(read_group([with_shadows]))


def test_each_model_has_a_row_an_attack_beside_those_without_shadows(with_shadows, page, tmp_path):
    write(page, tmp_path)
    rows = list(csv.DictReader((tmp_path / "shadows-made.csv").open(encoding="utf-8")))
    shadowed = ["lira", "lira_offline", "rmia", "rmia_offline"]
    assert [(row["model"], row["attack"], row["shadows"], row["seeds"]) for row in rows] == [
        ("teacher", "loss", "0", "1"),
        *(("teacher", attack, "6", "1") for attack in shadowed),
        ("vanilla", "loss", "0", "2"),
        *(("vanilla", attack, "5", "2") for attack in shadowed),
    ]
    found = {(row["model"], row["attack"]): float(row["auroc"]) for row in rows}
    for model in ("teacher", "vanilla"):
        assert found[model, "lira"] > found[model, "loss"] + 0.05
    loss = [read_run(with_shadows / "results" / "vanilla" / seed).tasks["mia_loss_made"] for seed in "01"]
    of_arm = [read_run(with_shadows / "shadows" / str(n) / "results" / "vanilla") for n in range(5)]
    expected = [
        shadow_attacks(one, [run.tasks["mia_loss_made"] for run in of_arm])["rmia"].measured["auroc"] for one in loss
    ]
    assert found["vanilla", "rmia"] == pytest.approx(np.mean([figure.value for figure in expected]))
    runs = list(csv.DictReader((tmp_path / "shadows_runs-made.csv").open(encoding="utf-8")))
    of_students = [row for row in runs if row["model"] == "vanilla" and row["attack"] == "rmia"]
    assert [float(row["auroc_stderr"]) for row in of_students] == pytest.approx([one.stderr for one in expected])


def test_the_page_says_what_this_attacker_knows_and_draws_his_curve(page, tmp_path):
    section = next(each for each in page.sections if each.heading.startswith("With shadow models"))
    assert "can train such models himself" in section.text[0]
    assert [caption.split(".")[0] for caption, _ in section.charts] == ["ROC of lira", "ROC of rmia"]
    html = write(page, tmp_path).read_text(encoding="utf-8")
    assert "With shadow models: made" in html


def test_no_other_word_of_the_page_is_made_of_them(with_shadows, page, tmp_path):
    shutil.copytree(with_shadows / "results", tmp_path / "results")
    manifest = json.loads((with_shadows / "study.json").read_text())
    del manifest["shadows"]
    (tmp_path / "study.json").write_text(json.dumps(manifest))
    without = build(read_group([tmp_path]))
    assert (without.title, without.statements, without.warnings) == (page.title, page.statements, page.warnings)
    others = [each.heading for each in page.sections if not each.heading.startswith("With shadow models")]
    assert [each.heading for each in without.sections] == others


def test_shadows_that_know_too_little_are_not_shown(with_shadows, tmp_path):
    """Of one shadow each text has one side only."""
    shutil.copytree(with_shadows, tmp_path, dirs_exist_ok=True)
    manifest = json.loads((with_shadows / "study.json").read_text())
    manifest["shadows"] = {"teacher": manifest["shadows"]["teacher"][:1]}
    (tmp_path / "study.json").write_text(json.dumps(manifest))
    page = build(read_group([tmp_path]))
    table = next((table for table in page.tables if table.name == "shadows-made"), None)
    assert table is not None
    assert {row[1] for row in table.rows} == {"loss", "rmia_offline"}, "which needs no second shadow"
    section = next(each for each in page.sections if each.heading.startswith("With shadow models"))
    assert [caption.split(".")[0] for caption, _ in section.charts] == ["ROC of rmia_offline"]
