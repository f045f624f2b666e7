"""What DP would not hold is refused before a study begins; its students know how their teacher was made."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from midistill_tasks.errors import InputError
from midistill_tasks.recipes.schema import Recipe
from midistill_tasks.study.check import check
from midistill_tasks.study.recipe import Study
from midistill_tasks.study.steps.train import student_recipe
from midistill_tasks.study.work import Work

DP = {"epsilon": 4.0}


@pytest.fixture
def with_dp(studies, stories260k):
    """``with_dp(teacher, train, **changes)``: a study of one arm, with these keys more in its sections."""
    pytest.importorskip("opacus")

    def with_dp(teacher, train, **changes) -> Study:
        teacher = {"model": str(stories260k), "fine_tune": {"epochs": 1}, **teacher}
        return studies(6, 4)(teacher=teacher, train={"epochs": 1, **train}, **{"arms": {"vanilla": {}}, **changes})

    return with_dp


def checked(study):
    work = Work(study)
    check(work, work.parts)


def test_students_under_dp_of_a_teacher_without_are_refused_before_it_is_trained(with_dp):
    with pytest.raises(InputError, match=r"arms\.vanilla: train\.dp: the teacher learnt its texts without dp"):
        checked(with_dp({}, {"dp": DP}))
    checked(with_dp({"dp": DP}, {"dp": DP}))
    checked(with_dp({}, {"dp": DP}, loss={"alpha": 0.0}))
    checked(with_dp({"dp": DP}, {}))


def test_an_arm_that_chooses_by_an_attack_is_refused(with_dp):
    with pytest.raises(InputError, match=r"arms\.chosen: train\.dp: 'non_vulnerable' chooses the texts"):
        checked(with_dp({"dp": DP}, {"dp": DP}, arms={"vanilla": {}, "chosen": {"non_vulnerable": True}}))


def test_a_students_recipe_can_be_read_again(with_dp):
    recipe = student_recipe(with_dp({"dp": DP}, {"dp": DP}), "vanilla/0")
    assert Recipe.model_validate(recipe.model_dump(mode="json")) == recipe
    assert recipe.teacher.dp is None


def test_a_null_control_has_nothing_to_protect(with_dp):
    documents = {"path": "d.jsonl", "null_control": True}
    with pytest.raises(ValidationError, match="no member is seen, so dp has nothing to protect"):
        with_dp({"dp": DP}, {}, data=None, documents=documents)
