"""What would end a study after hours is said before it begins, by `study` and by `study --dry-run` alike."""

from __future__ import annotations

import json

import pytest

from midistill_tasks.audit.study import load_study, run_study
from midistill_tasks.audit.study_check import check
from midistill_tasks.audit.study_plan import plan
from midistill_tasks.audit.study_recipe import Study
from midistill_tasks.errors import InputError


@pytest.fixture
def files(tmp_path, shared):
    """``files(**changes)``: a study of ready-made models on two files of texts."""
    for name in ("members", "nonmembers"):
        rows = (json.dumps({"text": f"the {name} text number {number} of many"}) for number in range(30))
        (tmp_path / f"{name}.jsonl").write_text("\n".join(rows))
    model = str(shared / "models" / "stories260K")

    def make(**changes) -> Study:
        values = {
            "output": str(tmp_path / "study"),
            "teacher": {"model": model},
            "models": {"student": model},
            "data": {name: str(tmp_path / f"{name}.jsonl") for name in ("members", "nonmembers")},
            "evaluate": {"attacks": ["loss"]},
        }
        return Study.model_validate(values | changes)

    return make


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"data": {"members": "none.jsonl", "nonmembers": "none.jsonl"}},
            "data.members: there is no file 'none.jsonl'",
        ),
        ({"data": None, "documents": {"path": "none.csv"}}, "documents.path: there is no file 'none.csv'"),
        ({"teacher": {"model": "/no/such/folder"}}, "teacher.model: '/no/such/folder' cannot be loaded"),
        ({"models": {"student": "./no-such"}}, "models.student: './no-such' cannot be loaded"),
        (
            {"evaluate": {"attacks": ["loss", "ref"], "reference": "/no/such/folder"}},
            "evaluate.reference: '/no/such/folder' cannot be loaded",
        ),
    ],
)
def test_what_is_not_there_is_named_with_its_key(files, changes, said):
    study = files(**changes)
    for begin in (run_study, plan):
        with pytest.raises(InputError) as error:
            begin(study)
        assert said in str(error.value)


def test_a_task_that_the_harness_does_not_know_is_refused_before_anything_is_done(files):
    study = files(evaluate={"attacks": ["loss"], "tasks": ["hellaswagg"]})
    with pytest.raises(InputError, match=r"knows no task 'hellaswagg' \(did you mean 'hellaswag'"):
        run_study(study)
    check(files(evaluate={"attacks": ["loss"], "tasks": ["hellaswag", "leaderboard", "mia_bios"]}))


def test_a_file_that_changed_since_the_study_began_is_refused(files, tmp_path):
    study = files()
    assert run_study(study).failed == {}
    members = tmp_path / "members.jsonl"
    before = members.read_text()
    members.write_text(before + json.dumps({"text": "one text more"}))
    with pytest.raises(InputError, match=r"data.members: .*members.jsonl has changed since this study began"):
        run_study(study)
    members.write_text(before)
    check(study)


def test_a_study_that_is_not_there_is_said_to_be_one_of_the_studies():
    with pytest.raises(InputError, match="there is no study 'nonsense': give a YAML file, or one of study-"):
        load_study("nonsense", [])
