"""The frontier of a study: the vanilla student stopped early and on fewer texts, beside its arms."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from transformers import AutoModelForCausalLM

from midistill_tasks.compare.frontier.against import against_frontier
from midistill_tasks.distill.callbacks.milestones import STOPPED
from midistill_tasks.distill.run import run_recipe
from midistill_tasks.errors import InputError
from midistill_tasks.report.findings import answer
from midistill_tasks.results.likelihoods import read_heldout
from midistill_tasks.results.roles import read_group
from midistill_tasks.study.plan import plan
from midistill_tasks.study.recipe import Study
from midistill_tasks.study.run import run_study
from midistill_tasks.study.steps.train import student_recipe
from midistill_tasks.study.work import Work

pytestmark = pytest.mark.slow  # whole studies; the statistics are in tests/compare/test_frontier.py


@pytest.fixture(scope="module")
def make(studies):
    """``make(**changes)``: a study of 48 members and 40 non-members in a folder of its own; a training has 12 steps."""
    return studies(
        48,
        40,
        arms={"bottleneck": {"bottleneck": 8}, "vanilla": {}},
        train={"epochs": 2, "warmup_steps": 1, "save_every": 5, "learning_rate": 0.01},
        frontier={"checkpoints": 2, "keep": [0.5]},
    )


@pytest.fixture(scope="module")
def finished(make):
    study = make()
    return study, run_study(study)


NAMES = ["vanilla@keep-0.5/0", "vanilla@stop-1/0", "vanilla@stop-2/0"]


def test_its_students_are_parts_of_the_study_and_no_arms_of_the_page(finished):
    study, outcome = finished
    assert not outcome.failed
    names = list(dict.fromkeys(part.name for part in Work(study).parts))
    assert names == ["teacher", "bottleneck/0", "vanilla/0", *NAMES]
    group = read_group([study.output])
    assert [entry.name for entry in group.entries] == ["teacher", "bottleneck", "vanilla"]
    assert group.frontier.arm == "vanilla"
    assert [run.model for run in group.frontier.stopped["0"]] == [
        "vanilla, seed 0, checkpoint 1, step 1 of 12",
        "vanilla, seed 0, checkpoint 2, step 2 of 12",
    ]
    assert [run.model for run in group.frontier.fewer["0"]] == ["vanilla, seed 0, on 0.5 of the texts"]
    record = json.loads((Path(study.output) / "students" / NAMES[0] / "midistill.json").read_text())
    assert record["counts"]["trained_on"] == 24


def test_every_arm_but_the_vanilla_one_is_held_against_it(finished):
    study, _ = finished
    group = read_group([study.output])
    (found,) = against_frontier(group, "files")
    assert (found.arm, found.split) == ("bottleneck", "files")
    assert found.sentence
    held = read_heldout(group.arms[0].runs[0], "files")
    assert found.perplexity == pytest.approx(
        group.arms[0].runs[0].utility["heldout_files/byte_perplexity"].value, rel=1e-6
    )
    judged = group.arms[0].runs[0].on("files")["loss"].items
    assert set(held.ids) == {item.id for item in judged if item.label == 0}
    assert [each.arm for each in answer(group).against] == ["bottleneck"]


def test_a_checkpoint_is_the_student_of_the_whole_schedule_at_its_step(make, tmp_path):
    study = make()
    run_study(study, only="teacher")
    recipe = student_recipe(study, "vanilla/0")
    train = recipe.train.model_copy(update={"save_every": 6, "keep_checkpoints": True})
    runs = {
        name: recipe.model_copy(update={"output": str(tmp_path / name), "train": train}) for name in ("with", "without")
    }
    stop = tmp_path / "stopped" / "6"
    run_recipe(runs["with"], milestones={stop: 0.5})
    run_recipe(runs["without"])
    assert json.loads((stop / STOPPED).read_text()) == {"step": 6, "steps": 12}

    def weights(folder: Path) -> dict[str, torch.Tensor]:
        return AutoModelForCausalLM.from_pretrained(folder).state_dict()

    equal = [(stop, tmp_path / "without" / "checkpoints" / "checkpoint-6"), (tmp_path / "with", tmp_path / "without")]
    for ours, theirs in equal:
        first, second = weights(ours), weights(theirs)
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(weights(stop)["lm_head.weight"], weights(tmp_path / "with")["lm_head.weight"])


def test_what_is_missing_is_done_alone_and_nothing_else(finished, caplog):
    study, _ = finished
    results = Path(study.output) / "results"
    before = {path: path.stat().st_mtime_ns for path in results.rglob("results_*.json")}
    shutil.rmtree(results / NAMES[1])
    plan_of_it = [line for line in plan(study).splitlines() if "@" in line]
    assert [line.split()[0] for line in plan_of_it] == [NAMES[0], *NAMES]
    assert [line.rstrip().endswith("done") for line in plan_of_it] == [True, True, False, True]
    run_study(study, only=NAMES[1])
    after = {path: path.stat().st_mtime_ns for path in results.rglob("results_*.json")}
    changed = {path for path in after if before.get(path) != after[path]}
    assert {path.relative_to(results).parts[0] for path in changed} == {"vanilla@stop-1"}


def test_a_part_of_it_waits_for_the_vanilla_student(make):
    study = make()
    run_study(study, only="teacher")
    with pytest.raises(InputError, match=r"vanilla/0 is not ready \(train\): run --only vanilla/0 first"):
        run_study(study, only=NAMES[1])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"arms": {"nonorm": {"nonorm": True}}}, "frontier: no arm is without interventions: add one"),
        ({"frontier": {"keep": [1.5]}}, "1.5 is no share of the texts: give shares above 0 and below 1"),
        ({"frontier": {"keep": [0.5, 0.5]}}, "give each share once"),
        ({"frontier": {"checkpoints": 0, "keep": []}}, "no student is on this frontier"),
    ],
)
def test_a_frontier_that_cannot_be_is_refused(make, changes, said):
    with pytest.raises(ValidationError, match=said):
        make(**changes)


def test_a_study_that_began_without_one_keeps_to_that(make):
    """The checkpoints of a training that is over cannot be had any more."""
    study = make(frontier=None)
    run_study(study, only="teacher")
    with pytest.raises(InputError, match="holds a study with another frontier"):
        run_study(study.model_copy(update={"frontier": make().frontier}), only="vanilla/0")


def test_a_study_without_one_has_no_trace_of_it(make):
    study = make(frontier=None)
    assert [part.name for part in Work(study).parts if "@" in part.name] == []
    assert Study.model_validate({**study.model_dump(), "frontier": {}}).frontier.keep == [0.25, 0.5, 0.75]
