from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from pathlib import Path

import pytest
import warm
import yaml

from midistill_tasks.cli.main import main
from midistill_tasks.distill.data import load_texts
from midistill_tasks.distill.selection import read_selection
from midistill_tasks.errors import InputError
from midistill_tasks.locks import held, held_beside
from midistill_tasks.results.roles import read_group
from midistill_tasks.splits.bios import biographies
from midistill_tasks.study import run as driver
from midistill_tasks.study.folders import states_folder
from midistill_tasks.study.plan import plan
from midistill_tasks.study.recipe import Study
from midistill_tasks.study.run import run_study
from midistill_tasks.study.texts import divide, divided_texts, study_data, teachers_texts
from midistill_tasks.study.work import Work


@pytest.fixture(scope="module")
def tiny_study(studies):
    """``tiny_study(**changes)``: a study of 50 members and 36 non-members in a folder of its own."""
    arms = {"vanilla": {}, "kept": {"non_vulnerable": True}}
    return studies(50, 36, arms=arms, controls={"kept": "vanilla"})


@pytest.fixture(scope="module")
def finished(tiny_study):
    """A study that ran, with one arm that cannot work."""
    study = tiny_study(arms={"vanilla": {}, "kept": {"non_vulnerable": True}, "broken": {"red_list": ["two tokens"]}})
    return study, run_study(study)


def test_a_study_ends_in_a_page_and_a_failed_arm_stops_nobody(finished):
    study, outcome = finished
    assert list(outcome.failed) == ["broken/0"]
    assert "red_list" in outcome.failed["broken/0"]
    group = read_group([study.output])
    assert [entry.name for entry in group.entries] == ["teacher", "vanilla", "kept"]
    assert "broken/0, train: " in outcome.file.read_text()
    assert group.runs[0].utility["heldout_files/word_perplexity"].value > 1
    assert not states_folder(study).exists(), "the teacher's hidden states, which all students learnt from"


def test_results_that_the_harness_could_not_write_to_their_end_do_not_count(tiny_study, finished, monkeypatch):
    """It only warns of that."""
    from lm_eval.loggers import EvaluationTracker

    def cut(tracker, task_name, samples):
        (results,) = Path(tracker.output_path).rglob("results_*.json")
        results.with_name(results.name.replace("results", f"samples_{task_name}") + "l").write_text('{"doc": 1}\\n{"do')

    study, _ = finished
    monkeypatch.setattr(EvaluationTracker, "save_results_samples", cut)
    folder = Path(study.output) / "results" / "again"
    with pytest.raises(InputError, match="the harness could not write its results"):
        Work(study).harness.evaluate(f"{study.output}/teacher", folder)
    assert not list(folder.parent.glob("again*"))


def test_a_study_at_work_keeps_another_out_of_its_folder_but_not_one_part_alone(finished):
    study, _ = finished
    with held(Path(study.output), "output"):
        with pytest.raises(InputError, match=r"another process .* is at work on"):
            run_study(study)
        assert run_study(study, only="vanilla/0").failed == {}
    with (
        held_beside(Path(study.output) / "results" / "vanilla" / "0", "output"),
        pytest.raises(InputError, match="at work"),
    ):
        Work(study).harness.evaluate("unused", Path(study.output) / "results" / "vanilla" / "0")


def test_a_finished_step_is_not_run_again(finished, monkeypatch):
    study, outcome = finished
    before = outcome.file.read_text()
    tried = []
    monkeypatch.setattr(driver, "_try", lambda work, part: tried.append((part.name, part.step)) or "not tried")
    again = run_study(study)
    assert tried == [("broken/0", "train")]
    assert again.page.lead == outcome.page.lead
    assert before.count("<svg") == again.file.read_text().count("<svg")


def test_every_member_is_judged_and_has_a_decision(finished):
    study, _ = finished
    vulnerable, others = read_selection(Path(study.output) / "selection")
    assert len(vulnerable | others) == 50
    assert not vulnerable.keys() & others.keys()
    summary = json.loads((Path(study.output) / "selection" / "selection.json").read_text())
    assert summary["vulnerable"] + summary["non_vulnerable"] == 50
    run = read_group([study.output]).teacher_run
    assert run.tasks["mia_loss_files"].metadata["counts"]["members"] == 50


def test_a_study_may_grow_but_not_change(finished):
    study, _ = finished
    with pytest.raises(InputError, match="another train"):
        run_study(study.model_copy(update={"train": study.train.model_copy(update={"epochs": 9})}))
    grown = study.model_copy(update={"seeds": [0, 1]})
    work = Work(grown)
    left = [part.name for part in work.parts if not work.done(part)]
    assert left == ["vanilla/1"] * 2 + ["kept/1"] * 2 + [
        "broken/0", "broken/0", "broken/1", "broken/1",
    ]  # fmt: skip


def test_a_folder_of_something_else_is_left_alone(tiny_study, tmp_path):
    (tmp_path / "precious.txt").write_text("x")
    with pytest.raises(InputError, match="holds no study"):
        run_study(tiny_study(output=str(tmp_path)))
    assert os.listdir(tmp_path) == ["precious.txt"]


def test_one_part_alone_needs_its_teacher_and_is_named_exactly(tiny_study):
    study = tiny_study()
    with pytest.raises(InputError, match="run --only teacher first"):
        run_study(study, only="vanilla/0")
    with pytest.raises(InputError, match="did you mean 'vanilla/0'"):
        run_study(study, only="vanila/0")


def test_the_plan_names_every_step_and_does_nothing(tiny_study):
    study = tiny_study()
    text = plan(study)
    assert text.count("train") == 3
    assert text.count("evaluate") == 3
    assert "unknown" not in text
    for role in ("teacher", "student without interventions"):
        assert re.search(rf"^  {role}: timed \d+ steps of 8 texts", text, re.MULTILINE)
    assert re.search(r"^memory: .*B, ", text, re.MULTILINE)
    assert "the teacher is read once: 1 MB of its hidden states while students learn" in text
    assert "disk: up to 1 MB for models" in text
    assert os.listdir(study.output) == []


def test_the_plan_of_documents_knows_their_texts_before_they_are_divided(documents, tmp_path, shared):
    made = documents()
    study = made.model_copy(update={"models": {"ready": str(shared / "models" / "stories260K")}})
    text = plan(study)
    assert "unknown" not in text
    assert "timed two batches" in text
    assert os.listdir(study.output) == []


# ---------------------------------------------------------------------- documents


@pytest.fixture(scope="module")
def documents(tmp_path_factory, shared):
    path = tmp_path_factory.mktemp("documents") / "d.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in biographies(200, seed=5)))

    def make(**changes) -> Study:
        return Study.model_validate(
            {
                "output": str(tmp_path_factory.mktemp("study")),
                "teacher": {"model": str(shared / "models" / "stories260K")},
                "documents": {"path": str(path), "tokens": 40, **changes},
                "models": {"ready": "some-model"},
            }
        )

    return make


def test_documents_are_cut_to_whole_words_within_their_tokens(documents, shared):
    from transformers import AutoTokenizer

    study = documents()
    divide(study, study.documents)
    texts = load_texts(study_data(study))
    tokenizer = AutoTokenizer.from_pretrained(shared / "models" / "stories260K")
    whole = biographies(200, seed=5)
    for text in texts.members + texts.nonmembers:
        source = next(one for one in whole if one.startswith(text))
        assert source[len(text) : len(text) + 1] in ("", " ")
        assert 25 < len(tokenizer(text)["input_ids"]) <= 40


def test_blank_documents_and_those_that_begin_with_white_space_alone_are_left_out(documents, tmp_path):
    path = tmp_path / "blank.jsonl"
    rows = [" ", "", "\n" * 200 + "too late", *biographies(20, seed=5)]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in rows))
    study = documents(path=str(path))
    assert sum(map(len, divided_texts(study, study.documents).values())) == 20


def test_the_coins_are_fair_and_another_seed_tosses_others(documents):
    sides = []
    for seed in range(4):
        study = documents(seed=seed)
        divide(study, study.documents)
        sides.append(set(load_texts(study_data(study)).members))
    assert all(75 <= len(side) <= 125 for side in sides)
    assert len({frozenset(side) for side in sides}) == 4
    assert 25 <= len(sides[0] & sides[1]) <= 80


def test_of_a_null_control_nobody_sees_what_is_judged(documents):
    study = documents(null_control=True)
    divide(study, study.documents)
    data, trained = study_data(study), set(teachers_texts(study).members)
    judged = load_texts(data)
    assert not trained & {*judged.members, *judged.nonmembers}
    # Two more are shots: unseen, too, and not judged.
    assert len(trained) + len(judged.members) + len(judged.nonmembers) == 198
    assert data.distil_on == f"{study.output}/data/train.jsonl"


def test_a_teacher_learns_the_members_also_where_its_students_do_not(tiny_study, tmp_path):
    other = tmp_path / "other.jsonl"
    other.write_text('{"text": "something else"}\n')
    study = tiny_study()
    study = study.model_copy(update={"data": study.data.model_copy(update={"distil_on": str(other)})})
    assert len(teachers_texts(study).members) == 50


# ---------------------------------------------------------------------- the command


def test_the_command_prints_the_plan(tiny_study, tmp_path, capsys):
    path = tmp_path / "s.yaml"
    path.write_text(yaml.safe_dump(tiny_study().model_dump(mode="json")))
    assert main(["study", str(path), "--dry-run"]) == 0
    assert "vanilla/0" in capsys.readouterr().out


@pytest.mark.slow
def test_a_killed_study_goes_on_and_ends_with_the_same_figures(tiny_study, tmp_path):
    """Killed with -9 in the middle of a student's training and again when its evaluation begins."""
    train = {"epochs": 12, "warmup_steps": 1, "save_every": 5}
    whole, killed = (tiny_study(arms={"vanilla": {}}, controls={}, train=train) for _ in range(2))
    recipe = tmp_path / "killed.yaml"
    recipe.write_text(yaml.safe_dump(killed.model_dump(mode="json")))
    command = [sys.executable, "-m", "midistill_tasks.cli", "study"]
    assert run_study(whole).failed == {}
    for sign in (
        "students/vanilla/0/checkpoints/checkpoint-10/midistill_whole.json",
        "students/vanilla/0/midistill.json",
    ):
        _kill_when(os.path.join(killed.output, sign), [*command, str(recipe)])
    finished = warm.run([*command, str(recipe)])
    assert finished.returncode == 0, finished.stderr
    figures = [
        [
            (item.id, item.score)
            for run in read_group([study.output]).runs
            for task in run.tasks.values()
            for item in task.items
        ]
        for study in (whole, killed)
    ]
    assert figures[0] == figures[1]


def _kill_when(path: str, command: list[str]) -> None:
    process = warm.start(command)
    while not os.path.exists(path):
        assert process.is_alive(), f"{path} never came"
        time.sleep(0.05)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
