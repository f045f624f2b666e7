"""Shadow models of a study: their draws, their parts, and what their attacks reach."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from made_runs import recipe_of

from midistill_tasks.distill.fine_tune import _made
from midistill_tasks.errors import InputError
from midistill_tasks.results.roles import read_group
from midistill_tasks.splits.bios import biographies
from midistill_tasks.study.executors.drive import drive
from midistill_tasks.study.executors.local import Local
from midistill_tasks.study.folders import TEACHER
from midistill_tasks.study.plan import plan
from midistill_tasks.study.recipe import Study
from midistill_tasks.study.run import run_study
from midistill_tasks.study.shadows import draw, places, shadow_study
from midistill_tasks.study.steps.evaluate import EvaluateStep
from midistill_tasks.study.steps.select import SelectStep
from midistill_tasks.study.steps.teacher import TeacherStep
from midistill_tasks.study.steps.train import TrainStep, student_recipe
from midistill_tasks.study.texts import divide, divided_texts, study_data, teachers_texts
from midistill_tasks.study.work import Work


@pytest.fixture(scope="module")
def of_shadows(tmp_path_factory, stories260k):
    """``of_shadows(**changes)``: a study with shadows in a folder of its own."""
    path = tmp_path_factory.mktemp("documents") / "d.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in biographies(120, seed=5)))

    def make(**changes) -> Study:
        values = {
            "output": str(tmp_path_factory.mktemp("study")),
            "seeds": [5],
            "teacher": {"model": str(stories260k), "fine_tune": {"epochs": 4, "learning_rate": 2e-3}},
            "student": {"every_nth_layer": 2},
            "documents": {"path": str(path), "tokens": 24},
            "train": {"epochs": 1, "warmup_steps": 1, "audit_texts": 2},
            "arms": {"vanilla": {}, "kept": {"non_vulnerable": True}},
            "evaluate": {"attacks": ["loss", "mink"]},
            "shadows": {"models": 4},
        }
        return Study.model_validate(values | changes)

    return make


@pytest.fixture
def divided(of_shadows):
    """The work of a study whose documents are divided."""
    study = of_shadows()
    divide(study, study.documents)
    return Work(study)


@pytest.fixture
def by_hand(monkeypatch):
    """The steps that a shadow's parts consist of do nothing but write what they are to write; what they did."""
    did = []

    def stands_in(step):
        def run(self, work, part):
            did.append((step.key, Path(work.study.output).name, part.name))
            written = self.writes(work.study, part)
            written.parent.mkdir(parents=True, exist_ok=True)
            written.write_text(json.dumps(_made_as_is(work.study)) if step is TeacherStep else "")

        monkeypatch.setattr(step, "run", run)

    for step in (TeacherStep, EvaluateStep, SelectStep, TrainStep):
        stands_in(step)
    return did


def _made_as_is(study):
    """What a teacher's folder says of how it was made, which is looked at."""
    return _made(study.teacher, study.teacher.fine_tune, study_data(study), teachers_texts(study))


# ---------------------------------------------------------------------- draws


def test_the_coins_of_shadows_are_not_the_study_s_nor_each_other_s(of_shadows, tmp_path):
    """Correlations of 500 fair coins are 0 ± 0.045: of 136 pairs none is beyond 4 of these, and the sides are even."""
    path = tmp_path / "many.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in biographies(500, seed=9)))
    study = of_shadows(documents={"path": str(path), "tokens": 24})
    sides = divided_texts(study, study.documents)
    members, texts = set(sides["members"]), sides["members"] + sides["nonmembers"]
    tossed = [{text: text in members for text in texts}, *(draw(texts, 0, number) for number in range(16))]
    coins = np.array([[seen[text] for text in texts] for seen in tossed], dtype=float)
    assert np.abs(np.corrcoef(coins) - np.eye(17)).max() < 4 / np.sqrt(len(texts))
    assert np.abs(coins.mean(axis=1) - 0.5).max() < 4 * 0.5 / np.sqrt(len(texts))
    assert draw(texts, 1, 0) != draw(texts, 0, 0), "documents.seed tosses other coins for the shadows, too"


def test_a_draw_knows_neither_the_other_texts_nor_who_is_a_member(divided):
    members, others = divided.texts.members, divided.texts.nonmembers
    whole = draw([*members, *others], 0, 3)
    assert whole == draw([*others, *members[::-1]], 0, 3)
    assert draw(members, 0, 3) == {text: whole[text] for text in whole if text in set(members)}


def test_a_shadow_learns_its_draw_and_judges_what_the_targets_judge(divided, by_hand):
    divided.step(_part(divided, "shadow/2")).run(divided, _part(divided, "shadow/2"))
    own = Work(shadow_study(divided.study, 2))
    judged = {*divided.texts.members, *divided.texts.nonmembers}
    assert {*own.texts.members, *own.texts.nonmembers} == judged
    assert own.documents.shots == divided.documents.shots
    assert set(own.texts.members) == {text for text, seen in draw(judged, 0, 2).items() if seen}
    assert set(teachers_texts(own.study).members) == set(own.texts.members)
    assert not set(own.documents.shots) & set(own.texts.members)
    assert set(own.texts.members) not in (set(divided.texts.members), set(divided.texts.nonmembers))


def _part(work, name):
    return next(part for part in work.parts if part.name == name and part.step == "shadows")


def test_a_shadow_has_the_study_s_recipes_and_folders_of_its_own(of_shadows):
    study = of_shadows()
    shadow = shadow_study(study, 3)
    assert shadow.teacher.fine_tune.folder == f"{study.output}/shadows/3/teacher"
    assert study_data(shadow).seed == 3
    theirs, ours = (student_recipe(one, "kept/3").model_dump() for one in (study, shadow))
    assert ours["seed"] == 3
    assert ours["interventions"]["selection"] == f"{study.output}/shadows/3/selection"
    differing = {key for key in theirs if theirs[key] != ours[key]}
    assert differing == {"output", "teacher", "data", "interventions"}
    assert {key for key in theirs["data"] if theirs["data"][key] != ours["data"][key]} == {
        "members", "nonmembers", "seed",
    }  # fmt: skip


def test_of_a_null_control_shadows_learn_what_is_judged_and_the_teacher_does_not(of_shadows, tmp_path):
    path = tmp_path / "d.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in biographies(60, seed=8)))
    study = of_shadows(documents={"path": str(path), "tokens": 24, "null_control": True}, arms={"vanilla": {}})
    assert study_data(study).distil_on
    assert study_data(shadow_study(study, 0)).distil_on is None


# ---------------------------------------------------------------------- parts


def test_the_plan_says_what_shadows_cost(of_shadows):
    study = of_shadows(shadows={"models": 3}, arms={"vanilla": {}})
    said, without = (plan(one) for one in (study, study.model_copy(update={"shadows": None})))
    lines = [line.split() for line in said.splitlines() if line.lstrip().startswith("shadow/")]
    assert [line[0] for line in lines] == [
        *(f"shadow/{n}" for n in range(3)),
        *(f"shadow/{n}/vanilla" for n in range(3)),
    ]
    assert all(line[-1] == "s" and int(line[-2]) > 0 for line in lines)
    megabytes = [int(re.search(r"disk: up to (\d+) MB", text)[1]) for text in (said, without)]
    assert megabytes[0] >= megabytes[1] + 3, "three teachers and three students of a megabyte each, about"


def test_the_parts_are_counted_and_done_one_by_one_and_only_once(of_shadows, by_hand):
    study = of_shadows(shadows={"models": 2})
    run_study(study, only=TEACHER)
    by_hand.clear()
    with pytest.raises(InputError, match=r"shadow/1 is not ready .*: run --only shadow/1 first"):
        run_study(study, only="shadow/1/kept")
    assert run_study(study, only="shadow/1").failed == {}
    assert run_study(study, only="shadow/1/kept").failed == {}
    of_teacher = [("teacher", "1", TEACHER), ("evaluate", "1", TEACHER), ("select", "1", TEACHER)]
    assert by_hand == [*of_teacher, ("train", "1", "kept/1"), ("evaluate", "1", "kept/1")]
    run_study(study, only="shadow/1")
    run_study(study, only="shadow/1/kept")
    assert len(by_hand) == 5
    assert places(study) == {
        "shadows": {"teacher": ["shadows/1/results/teacher"], "kept": ["shadows/1/results/kept/1"]}
    }
    said = plan(study)
    shadows = [line.split() for line in said.splitlines() if line.lstrip().startswith("shadow/")]
    assert [line[0] for line in shadows if line[-1] == "done"] == ["shadow/1", "shadow/1/kept"]
    assert len(shadows) == 2 + 2 * 2


def test_what_an_interruption_left_is_gone_on_with(of_shadows, by_hand):
    study = of_shadows(shadows={"models": 2})
    run_study(study, only=TEACHER)
    run_study(study, only="shadow/0")
    results = Path(study.output, "shadows", "0", "results", "teacher")
    results.unlink()
    by_hand.clear()
    run_study(study, only="shadow/0")
    assert by_hand == [("evaluate", "0", TEACHER)]


def test_shadows_may_come_later_and_grow_in_number(of_shadows, by_hand):
    study = of_shadows(shadows=None)
    run_study(study, only=TEACHER)
    assert not any(part.step == "shadows" for part in Work(study).parts)
    for models in (2, 3):
        more = Study.model_validate(study.model_dump() | {"shadows": {"models": models}})
        run_study(more, only=f"shadow/{models - 1}")
    assert [did[1] for did in by_hand if did[0] == "teacher"] == [Path(study.output).name, "1", "2"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"documents": None, "data": {"members": "m.jsonl", "nonmembers": "n.jsonl"}}, "need 'documents'"),
        ({"teacher": {"model": "some-model"}}, "'teacher.fine_tune'"),
        ({"evaluate": {"attacks": ["mink"]}}, "add it to evaluate.attacks"),
        ({"arms": {"shadow": {}}}, "'shadow' is the name of the parts"),
    ],
)
def test_what_shadows_cannot_do_is_refused_before_anything_is_done(of_shadows, changes, said):
    study = of_shadows(**changes)
    with pytest.raises(InputError, match=said):
        plan(study)
    assert not list(Path(study.output).iterdir())


# ---------------------------------------------------------------------- as a whole


@pytest.mark.slow
def test_whoever_trains_shadows_finds_members_and_two_at_a_time_the_same(of_shadows, tmp_path):
    study = of_shadows(arms={"vanilla": {}})
    outcome = run_study(study)
    assert outcome.failed == {}
    group = read_group([study.output])
    assert {name: len(runs) for name, runs in group.shadows.items()} == {"teacher": 4, "vanilla": 4}
    rows = list(csv.DictReader((Path(study.output) / "report" / "shadows-files.csv").open(encoding="utf-8")))
    areas = {row["attack"]: float(row["auroc"]) for row in rows if row["model"] == "teacher"}
    assert max(areas["lira"], areas["rmia"]) > 0.6
    assert {row["model"] for row in rows} == {"teacher", "vanilla"}
    kept = next(Path(study.output, "shadows", "0", "results").rglob("samples_mia_loss_files_*"))
    assert "text" not in json.loads(kept.read_text().splitlines()[0])["doc"]
    other = of_shadows(arms={"vanilla": {}})
    recipe = [recipe_of(other, tmp_path / "s.yaml")]
    assert run_study(other, elsewhere=lambda work, left: drive(Local(2), work, left, recipe)).failed == {}
    table = Path("report", "shadows-files.csv")
    assert Path(other.output, table).read_text() == Path(study.output, table).read_text()
