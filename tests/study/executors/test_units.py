"""What one command does of a study, and what it takes."""

from __future__ import annotations

import pytest

from midistill_tasks.errors import InputError
from midistill_tasks.study.executors.resources import GB
from midistill_tasks.study.executors.units import cut, logs_folder, units_of
from midistill_tasks.study.graph import Part, needs_of_all
from midistill_tasks.study.run import _named
from midistill_tasks.study.work import Work


@pytest.fixture(scope="module")
def study(studies):
    arms = {"vanilla": {}, "kept": {"non_vulnerable": True}}
    return studies(50, 36, arms=arms, controls={"kept": "vanilla"})


def units(study, **changes):
    work = Work(study(**changes))
    return {unit.name: unit for unit in units_of(work, work.parts, ["r.yaml", "--set=seeds=[0]"])}


def test_a_student_does_not_wait_for_an_evaluation_that_it_does_not_need(study):
    found = units(study)
    assert list(found) == ["teacher:teacher", "evaluate:teacher", "vanilla/0", "kept/0"]
    assert found["vanilla/0"].needs == ("teacher:teacher",)
    assert found["kept/0"].needs == ("teacher:teacher", "evaluate:teacher")
    assert [part.key for part in found["evaluate:teacher"].parts] == ["evaluate:teacher", "select:teacher"]
    assert found["evaluate:teacher"].arguments[-2:] == ("--only", "evaluate:teacher,select:teacher")
    assert found["kept/0"].arguments == ("study", "r.yaml", "--set=seeds=[0]", "--only", "kept/0")


def test_checkpoints_are_evaluated_beside_the_student_that_they_are_of(study):
    found = units(study, frontier={"checkpoints": 2, "keep": [0.5]})
    assert found["vanilla@stop-1/0"].needs == ("teacher:teacher", "train:vanilla/0")
    assert found["evaluate:vanilla/0"].needs == ("teacher:teacher", "train:vanilla/0")
    assert found["vanilla@keep-0.5/0"].needs == ("teacher:teacher",)


def test_a_part_that_waits_for_more_than_its_first_one_does_not_keep_that_waiting():
    parts = [Part("a", step="x"), Part("b", step="x"), Part("a", ("x:a", "x:b"), "y"), Part("b", ("x:b",), "y")]
    assert [[part.key for part in group] for group in cut(parts, needs_of_all(parts))] == [
        ["x:a"], ["x:b"], ["y:a"], ["y:b"],
    ]  # fmt: skip


def test_each_part_is_done_by_one_unit_after_what_it_needs(studies):
    shadows = studies(50, 36)(arms={"vanilla": {}, "nonorm": {"nonorm": True}}, seeds=[0, 1], frontier={}).model_copy(
        update={"models": {"ready": "some-model"}}
    )
    work = Work(shadows)
    found = units_of(work, work.parts, ["r"])
    done: set[str] = set()
    for unit in found:
        assert set(unit.needs) <= done
        done.add(unit.name)
    assert sorted(part.key for unit in found for part in unit.parts) == sorted(part.key for part in work.parts)
    assert len({unit.logs for unit in found}) == len(found)


def test_what_a_unit_is_told_names_its_parts_and_no_other(study):
    work = Work(study())
    for unit in units_of(work, work.parts[1:], ["r"]):
        only = unit.arguments[-1]
        keys = [name for name in only.split(",") if ":" in name]
        assert keys or [part for part in work.parts if part.name == only] == list(unit.parts)
        assert unit.logs == logs_folder(work.study.output, only)


def test_a_step_of_a_part_is_named_by_both_and_several_by_commas(study):
    work = Work(study())
    with pytest.raises(InputError, match=r"no such part \(did you mean 'train:vanilla/0'\?\)"):
        _named(work, "trian:vanilla/0")
    with pytest.raises(InputError, match="evaluate:teacher: teacher is not ready"):
        _named(work, "evaluate:teacher")
    assert _named(work, "teacher:teacher,teacher") == _named(work, "teacher")


def test_a_part_takes_what_the_recipe_says_else_an_estimate(study):
    said = units(study, resources={"gpus": 0.5, "cpus": 3, "memory": 2})["vanilla/0"].need
    assert (said.gpus, said.cpus, said.memory) == (0.5, 3, 2 * GB)
    small, large = (
        units(study, teacher={"config": {"model_type": "gpt2", "n_positions": 256, **config}, "fine_tune": {}})
        for config in ({"n_layer": 2, "n_embd": 16, "n_head": 2}, {"n_layer": 24, "n_embd": 1024, "n_head": 16})
    )
    assert GB < small["vanilla/0"].need.memory < 2 * GB
    assert 5 * 4 * 0.30e9 + GB < large["vanilla/0"].need.memory < 5 * 4 * 0.36e9 + 6 * GB
    assert small["vanilla/0"].need.gpus is None
    assert units(study, evaluate={"attacks": ["loss"], "device": "cpu"})["vanilla/0"].need.gpus == 0
