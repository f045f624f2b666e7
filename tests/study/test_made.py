"""A study never shows what was made under another recipe: it is refused, or made anew."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from midistill_tasks.cli.main import main
from midistill_tasks.errors import InputError
from midistill_tasks.results.reader import read_run
from midistill_tasks.study import run as driver
from midistill_tasks.study.executors import drive
from midistill_tasks.study.executors.units import kept_recipe
from midistill_tasks.study.plan import plan
from midistill_tasks.study.run import load_study, run_study
from midistill_tasks.study.work import Work


def smoothed(value, **more):
    return {"smoothed": {"loss": {"label_smoothing": value, **more}}, "vanilla": {}}


@pytest.fixture(scope="module")
def made(studies):
    """``make(**changes)`` of a study that ran, with two arms and a checkpoint, and its folder."""
    make = studies(16, 12, frontier={"checkpoints": 1, "keep": []}, evaluate={"attacks": ["loss"]})
    study = make(arms=smoothed(0.1))
    assert run_study(study).failed == {}
    return make, study.output


@pytest.fixture
def copy(made, tmp_path):
    """``copy(**changes)``: the study in a copy of the folder."""
    make, folder = made
    shutil.copytree(folder, tmp_path / "study")
    return lambda **changes: make(**{"output": str(tmp_path / "study"), **changes})


@pytest.fixture
def tried(monkeypatch):
    """Keys of the parts that would be run."""
    keys = []
    monkeypatch.setattr(driver, "_try", lambda work, part: keys.append(part.key) or "not tried")
    return keys


def test_an_arm_that_changed_is_refused_until_all_that_was_made_of_it_is_removed(copy, tried):
    changed = copy(arms=smoothed(0.5), seeds=[0, 1])
    said = r"^arms\.smoothed: .*another loss\.label_smoothing \(0\.1 there, 0\.5 here\): give the arm another name, or"
    folder = Path(changed.output)
    for begin in (run_study, plan, lambda study: run_study(study, "smoothed/1")):
        with pytest.raises(InputError, match=rf"{said} remove .*/students/smoothed and .*/results/smoothed to have"):
            begin(changed)
    shutil.rmtree(folder / "students" / "smoothed" / "0")
    with pytest.raises(InputError, match=rf"{said} remove [^ ]*/results/smoothed to have"):
        run_study(changed)
    shutil.rmtree(folder / "results" / "smoothed" / "0")
    run_study(changed)
    assert tried[:2] == ["train:smoothed/0", "train:smoothed/1"]


def test_the_same_arm_said_otherwise_is_the_same_also_in_a_folder_that_was_moved(copy, tmp_path, tried):
    arms = {"vanilla": {"train": {}}, **smoothed(0.1, temperature=2, alpha=0.5)}
    run_study(copy(arms=arms))
    (tmp_path / "study").rename(tmp_path / "moved")
    run_study(copy(arms=arms, output=str(tmp_path / "moved")))
    assert tried == []


def test_an_arm_that_was_left_out_meanwhile_may_not_come_back_as_another(copy):
    without = copy(arms={"vanilla": {}})
    run_study(without)
    with pytest.raises(InputError, match=r"^arms\.smoothed: .*loss\.label_smoothing"):
        run_study(copy(arms=smoothed(0.5)))
    assert run_study(copy(arms=smoothed(0.1))).failed == {}


def test_an_arm_of_which_nothing_was_made_may_change(copy, tried):
    study = copy(arms={**smoothed(0.1), "other": {"nonorm": True}})
    run_study(study)
    run_study(copy(arms={**smoothed(0.1), "other": {"temperature": 0.5}}))
    assert tried == ["train:other/0", "train:other/0"]


def test_a_part_that_another_recipe_made_meanwhile_is_not_shown(copy):
    study = copy(arms={**smoothed(0.1), "other": {"nonorm": True}})
    changed = copy(arms={**smoothed(0.1), "other": {"temperature": 0.5}})

    def elsewhere(work, left):
        assert run_study(changed, "train:other/0").failed == {}
        return {}

    with pytest.raises(InputError, match=r"^arms\.other: .*interventions\."):
        run_study(study, elsewhere=elsewhere)


def test_figures_without_their_student_are_of_the_arm_that_the_study_had(copy):
    study = copy(arms=smoothed(0.5))
    shutil.rmtree(Path(study.output) / "students")
    with pytest.raises(InputError, match=r"^arms\.smoothed: .*remove [^ ]*/results/smoothed to have"):
        run_study(study)


def test_a_student_that_is_trained_anew_is_evaluated_anew_with_its_checkpoints(copy):
    study = copy(arms=smoothed(0.1))
    folder = Path(study.output)
    names = ("vanilla/0", "vanilla@stop-1/0")
    before = {name: next((folder / "results" / name).rglob("results_*.json")).read_text() for name in names}
    scores = [read_run(folder / "results" / name).tasks["mia_loss_files"].scores.tolist() for name in names]
    shutil.rmtree(folder / "students" / "vanilla" / "0")
    said = [line.split() for line in plan(study).splitlines()]
    assert [line[0] for line in said if line and line[0] in names and line[-1] != "done"] == ["vanilla/0"] * 2 + [
        "vanilla@stop-1/0"
    ]
    assert run_study(study).failed == {}
    for name in names:
        kept = next((folder / "earlier" / "results" / name).rglob("results_*.json"))
        assert kept.read_text() == before[name]
        assert next((folder / "results" / name).rglob("results_*.json")).name != kept.name
    assert scores == [read_run(folder / "results" / n).tasks["mia_loss_files"].scores.tolist() for n in names]
    assert (folder / "earlier" / "students" / "vanilla@stop-1" / "0").is_dir()
    assert plan(study).endswith("nothing is left to do but the report")


def test_a_student_that_cannot_be_trained_anew_shows_no_figures_of_the_earlier_one(copy, monkeypatch):
    study = copy(arms=smoothed(0.1))
    shutil.rmtree(Path(study.output) / "students" / "smoothed" / "0")
    monkeypatch.setattr(
        "midistill_tasks.study.steps.train.run_recipe", lambda *_: (_ for _ in ()).throw(InputError("no"))
    )
    outcome = run_study(study)
    assert list(outcome.failed) == ["smoothed/0"]
    assert json.loads((Path(study.output) / "study.json").read_text())["arms"]["smoothed"] == {}


def test_a_teacher_that_is_trained_anew_is_evaluated_anew_and_its_students_stay(copy, tried):
    study = copy(arms=smoothed(0.1))
    shutil.rmtree(Path(study.output) / "teacher")
    assert [part.key for part in Work(study).left(Work(study).parts)] == ["teacher:teacher", "evaluate:teacher"]


# ---------------------------------------------------------------------- what units read


def test_units_read_the_recipe_that_the_study_began_with_whatever_becomes_of_the_file(copy, tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(drive, "drive", lambda executor, work, left, recipe: told.append(recipe) or {})
    path = tmp_path / "s.yaml"
    path.write_text(yaml.safe_dump(copy(arms=smoothed(0.1)).model_dump(mode="json", exclude_unset=True)))
    assert main(["study", str(path), "--jobs", "2", "--set", "resources.cpus=3"]) == 0
    path.write_text("edited meanwhile")
    ((recipe,),) = told
    read = load_study(recipe, [])
    assert (read.arms["smoothed"].loss, read.resources.cpus) == ({"label_smoothing": 0.1}, 3)


@pytest.mark.parametrize("name", ["study-bios", "study-brown", "study-brown-null", "study-pythia", "study-bert"])
def test_the_recipe_that_units_read_is_the_one_that_was_given(name, tmp_path):
    study = load_study(name, [f"output={tmp_path}", "evaluate.k=0.5", "evaluate.surp={entropy: true}"])
    read = load_study(*kept_recipe(study), [])
    assert read == study
    assert read.evaluate.options == study.evaluate.options


def test_a_further_seed_of_an_arm_learns_from_the_texts_of_the_first(studies, tmp_path):
    """Else a mean over seeds would be one over texts, too."""
    others = tmp_path / "others.jsonl"
    texts = [f"Another text, number {number}, of nobody at all." for number in range(8)]
    others.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    arms = {"disjoint": {"data": {"distil_on": str(others)}}}
    make = studies(12, 12, arms=arms, output=str(tmp_path / "study"), evaluate={"attacks": ["loss"]})
    assert run_study(make()).failed == {}
    begun = others.read_text()
    others.write_text(begun.replace("nobody", "somebody"))
    (failed,) = run_study(make(seeds=[0, 1])).failed.items()
    assert failed[0] == "disjoint/1"
    assert "arms.disjoint.data: " in failed[1]
    assert "students/disjoint/0 was trained on other texts than are there now: restore them" in failed[1]
    assert not (tmp_path / "study" / "students" / "disjoint" / "1").exists()
    others.write_text(begun)
    assert run_study(make(seeds=[0, 1])).failed == {}
