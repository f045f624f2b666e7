"""What would end a study after hours is said before it begins, by `study` and by `study --dry-run` alike."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import math
import shutil
from pathlib import Path

import lm_eval.tasks
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from midistill_tasks.cli.main import main
from midistill_tasks.errors import InputError
from midistill_tasks.results.reader import read_run
from midistill_tasks.study.check import HASHES, check
from midistill_tasks.study.evaluate import _warnings_only
from midistill_tasks.study.plan import plan
from midistill_tasks.study.recipe import Study
from midistill_tasks.study.run import load_study, run_study
from midistill_tasks.study.texts import divide, teachers_texts
from midistill_tasks.study.work import Work


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
        ({"teacher": {"model": "/no/such/folder"}}, "teacher.model: there is no folder '/no/such/folder'"),
        ({"models": {"student": "./no-such"}}, "models.student: there is no folder './no-such'"),
        (
            {"evaluate": {"attacks": ["loss", "ref"], "reference": "/no/such/folder"}},
            "evaluate.reference: there is no folder '/no/such/folder'",
        ),
    ],
)
def test_what_is_not_there_is_named_with_its_key(files, changes, said):
    study = files(**changes)
    for begin in (run_study, plan):
        with pytest.raises(InputError) as error:
            begin(study)
        assert said in str(error.value)


@pytest.fixture
def one_index(monkeypatch):
    """Equal `TaskManager`s are one: the harness's own 14,000 files are read once."""
    made, original = {}, lm_eval.tasks.TaskManager

    def manager(**options):
        if repr(options) not in made:
            made[repr(options)] = original(**options)
        return made[repr(options)]

    monkeypatch.setattr(lm_eval.tasks, "TaskManager", manager)


@pytest.mark.slow
@pytest.mark.usefixtures("one_index")
def test_a_task_that_the_harness_does_not_know_is_refused_before_anything_is_done(files):
    study = files(evaluate={"attacks": ["loss"], "tasks": ["hellaswagg"]})
    with pytest.raises(InputError, match=r"knows no task 'hellaswagg' \(did you mean 'hellaswag'"):
        run_study(study)
    right = files(evaluate={"attacks": ["loss"], "tasks": ["hellaswag", "leaderboard", "mia_bios"]})
    work = Work(right)
    check(work, work.parts)


def test_an_arm_that_is_no_recipe_is_refused_before_the_teacher_is_trained(files, tmp_path):
    other = tmp_path / "members.jsonl"
    data = {"members": str(other), "nonmembers": str(tmp_path / "nonmembers.jsonl"), "distil_on": str(other)}
    arms = {"kept": {"non_vulnerable": True}}
    study = files(data=data, arms=arms, models={}, student={"every_nth_layer": 2})
    with pytest.raises(InputError, match=r"^arms\.kept: "):
        run_study(study)
    assert not (tmp_path / "study").exists()


@pytest.fixture
def finished(files):
    """A study that ran, and with one model more."""
    study = files()
    assert run_study(study).failed == {}
    return study, study.model_copy(update={"models": {**study.models, "another": study.teacher.model}})


def test_a_file_that_changed_since_the_study_began_is_refused(finished, tmp_path):
    _, grown = finished
    members = tmp_path / "members.jsonl"
    before = members.read_text()
    members.write_text(before + json.dumps({"text": "one text more"}))
    for only in (None, "another/0"):
        with pytest.raises(InputError, match=r"data.members: .*members.jsonl has changed since this study began"):
            run_study(grown, only)
    members.write_text(before)
    assert run_study(grown).failed == {}


def test_a_file_more_or_less_under_a_glob_is_a_change_too(files, tmp_path):
    data = {"members": str(tmp_path / "mem*.jsonl"), "nonmembers": [str(tmp_path / "nonmembers.jsonl")]}
    study = files(data=data)
    assert run_study(study).failed == {}
    grown = study.model_copy(update={"models": {**study.models, "another": study.teacher.model}})
    (tmp_path / "members_2.jsonl").write_text('"one text more"')
    with pytest.raises(InputError, match=r"data\.members: .*members_2\.jsonl has changed since this study began"):
        plan(grown)
    (tmp_path / "members_2.jsonl").unlink()
    (tmp_path / "members.jsonl").rename(tmp_path / "members_3.jsonl")
    with pytest.raises(InputError, match=r"members(_3)?\.jsonl has changed since this study began"):
        plan(grown)


def test_a_finished_study_writes_its_page_again_without_what_it_was_made_from(finished, tmp_path):
    study, grown = finished
    (tmp_path / "members.jsonl").unlink()
    assert run_study(study).file.is_file()
    with pytest.raises(InputError, match=r"data\.members: there is no file"):
        run_study(grown, "another/0")


def test_a_study_with_another_key_is_refused_by_its_plan_too_and_may_be_moved(finished, tmp_path):
    study, grown = finished
    other = study.model_copy(update={"evaluate": study.evaluate.model_copy(update={"first_token": "prefix"})})
    for begin in (run_study, plan):
        with pytest.raises(InputError, match=r"with another evaluate\.first_token \('skip' there, 'prefix' here\)"):
            begin(other)
    (tmp_path / "study").rename(tmp_path / "moved")
    assert "student/0" in plan(study.model_copy(update={"output": str(tmp_path / "moved")}))
    assert run_study(grown.model_copy(update={"output": str(tmp_path / "moved")})).failed == {}


def test_a_model_that_gives_no_score_has_failed_and_is_tried_again(finished, tmp_path, shared):
    study, _ = finished
    model = AutoModelForCausalLM.from_pretrained(shared / "models" / "stories260K")
    with torch.no_grad():
        model.get_input_embeddings().weight.fill_(math.nan)
    model.save_pretrained(tmp_path / "broken")
    AutoTokenizer.from_pretrained(shared / "models" / "stories260K").save_pretrained(tmp_path / "broken")
    grown = study.model_copy(update={"models": {**study.models, "broken": str(tmp_path / "broken")}})
    for _ in range(2):
        outcome = run_study(grown)
        assert "no attack gave a score" in outcome.failed["broken/0"]


def test_models_of_a_study_take_model_args(files, shared):
    model = str(shared / "models" / "stories260K")
    study = files(models={"same": f"{model},dtype=float32", "half": f"{model},dtype=bfloat16"})
    assert run_study(study).failed == {}
    teacher, same, half = (
        read_run(f"{study.output}/results/{name}").tasks["mia_loss_files"].scores
        for name in ("teacher", "same/0", "half/0")
    )
    assert (same == teacher).all()
    assert (half != teacher).any()
    assert half == pytest.approx(teacher, rel=0.02)


def test_figures_of_another_model_of_the_same_name_are_refused_also_where_it_was_left_out_meanwhile(
    finished, tmp_path, shared
):
    study, grown = finished
    shutil.copytree(shared / "models" / "stories260K", tmp_path / "other")
    other = study.model_copy(update={"models": {"student": str(tmp_path / "other")}})
    without = study.model_copy(update={"models": {"another": study.teacher.model}})
    said = r"^models\.student: .*results/student holds figures of another model \(pretrained '.*stories260K' there, '"
    for begin in (run_study, plan):
        with pytest.raises(InputError, match=said):
            begin(other)
    assert run_study(without).failed == {}
    with pytest.raises(InputError, match=said):
        run_study(other)
    assert run_study(grown).failed == {}
    shutil.rmtree(tmp_path / "study" / "results" / "student")
    assert run_study(other).failed == {}
    assert read_run(f"{study.output}/results/student/0").model == str(tmp_path / "other")


def test_a_model_s_args_are_what_it_is_too(files, shared):
    model = str(shared / "models" / "stories260K")
    study = files(models={"half": f"{model},dtype=bfloat16"})
    assert run_study(study).failed == {}
    assert run_study(study).failed == {}
    with pytest.raises(InputError, match=r"\(dtype 'bfloat16' there, 'float32' here\)"):
        run_study(files(models={"half": model}))


@pytest.fixture
def taught(files, tmp_path):
    """``taught(output, **fine_tune)``: studies that share the folder of a teacher, which the first one trains."""

    def make(output, **changes):
        given = {"folder": str(tmp_path / "T"), "epochs": 1, "learning_rate": 1e-3}
        teacher = {"model": files().teacher.model, "fine_tune": given | changes.pop("fine_tune", {})}
        return files(output=str(tmp_path / output), teacher=teacher, **changes)

    assert run_study(make("first"), "teacher:teacher").failed == {}
    return make


def test_a_teacher_that_another_study_made_otherwise_is_refused(taught, tmp_path):
    shutil.copy(tmp_path / "nonmembers.jsonl", tmp_path / "other.jsonl")
    swapped = {"members": str(tmp_path / "other.jsonl"), "nonmembers": str(tmp_path / "members.jsonl")}
    for changes, differs in (({"data": swapped}, "members"), ({"fine_tune": {"epochs": 2}}, "fine_tune")):
        for begin in (run_study, plan, lambda study: run_study(study, "evaluate:teacher")):
            with pytest.raises(
                InputError, match=rf"^teacher\.fine_tune\.folder: .*made otherwise \({differs} differ\)"
            ):
                begin(taught("second", **changes))
        assert not (tmp_path / "second").exists()
    assert run_study(taught("second"), "teacher").failed == {}
    (tmp_path / "T" / "midistill_teacher.json").write_text("{")
    with pytest.raises(InputError, match=r"midistill_teacher\.json is damaged: remove that folder"):
        plan(taught("third"))


@pytest.mark.parametrize("null_control", [False, True])
def test_what_a_teacher_learns_of_documents_is_known_before_they_are_divided(files, tmp_path, null_control):
    path = tmp_path / "documents.jsonl"
    path.write_text("".join(json.dumps({"text": f"{n} is the number of this story of many"}) + "\n" for n in range(60)))
    study = files(data=None, documents={"path": str(path), "tokens": 16, "null_control": null_control})
    before = teachers_texts(study)
    divide(study, study.documents)
    assert before.members == teachers_texts(study).members


@pytest.mark.parametrize("begin", [run_study, plan])
def test_an_output_that_cannot_be_had_is_one_sentence(files, tmp_path, begin, monkeypatch, capsys):
    (tmp_path / "afile").touch()
    long = str(tmp_path / ("x" * 300))
    with pytest.raises(InputError, match=r"^output: .*afile exists and holds no study: give an empty or a new folder"):
        begin(files(output=str(tmp_path / "afile")))
    with pytest.raises(
        InputError, match=r"^output: .* cannot be written \(File name too long\): give a folder that can"
    ):
        begin(files(output=long))
    assert main(["study", "study-bios", "--set", f"output={long}", "--only", "teacher"]) == 2
    assert "File name too long" in capsys.readouterr().err
    with pytest.raises(InputError, match=r"midistill_teacher\.json cannot be written \(File name too long\): give a"):
        begin(files(teacher={"model": files().teacher.model, "fine_tune": {"folder": long}}))

    def no_entry(path, *_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "is_file", no_entry)
        with pytest.raises(InputError, match=r"^output: .* cannot be written \(Permission denied\): give a folder"):
            begin(files())


def test_a_study_that_was_begun_without_hashes_has_them_from_then_on(finished, tmp_path):
    study, _ = finished
    written = tmp_path / "study" / HASHES
    before = written.read_text()
    written.unlink()
    run_study(study)
    assert written.read_text() == before


def test_a_study_that_is_not_there_is_said_to_be_one_of_the_studies():
    with pytest.raises(InputError, match="there is no study 'nonsense': give a YAML file, or one of study-"):
        load_study("nonsense", [])


def test_the_harness_keeps_quiet_only_while_it_evaluates_for_a_study():
    logger = logging.getLogger("lm_eval")
    before = logger.level
    with contextlib.suppress(RuntimeError), _warnings_only("lm_eval"):
        assert logger.level == logging.WARNING
        raise RuntimeError
    assert logger.level == before
