"""What is said to hold, and what is refused because it would not."""

from __future__ import annotations

import json

import pytest

from midistill_tasks.distill.dp.guarantee import MADE, WEIGHTS_ONLY, check_run, guarantee
from midistill_tasks.errors import InputError

DP = {"epsilon": 8.0, "delta": 1e-5}
OWN = {"epsilon": 2.0, "delta": 1e-6}


@pytest.fixture
def tuned(tmp_path):
    """``tuned(dp, folder, **teacher)``: a folder as of a teacher that was fine-tuned here."""

    def tuned(dp, folder="tuned", **teacher):
        folder = tmp_path / folder
        folder.mkdir(exist_ok=True)
        (folder / MADE).write_text(json.dumps({"teacher": {"model": "org/base", **teacher}, "dp": dp}))
        return str(folder)

    return tuned


@pytest.fixture
def others(tmp_path):
    path = tmp_path / "others.jsonl"
    path.write_text('{"text": "w1 w2 w3"}\n')
    return str(path)


def said(recipe):
    whole = guarantee(recipe, 24)
    assert not whole or whole.startswith("Nothing") or whole.endswith(WEIGHTS_ONLY)
    return whole.removesuffix(f" {WEIGHTS_ONLY}")


def test_without_dp_nothing_is_said(recipe_of, tuned):
    assert said(recipe_of()) == ""
    assert said(recipe_of(teacher={"model": tuned(None)})) == ""


def test_a_dp_student_of_a_ready_made_teacher_leans_on_what_that_saw(recipe_of, teacher_folder):
    assert said(recipe_of(train__dp=OWN)) == (
        "The student is (2, 1e-06)-DP for each of the 24 texts that it was trained on, provided that"
        f" {teacher_folder} never saw it."
    )


def test_alone_a_dp_student_leans_on_nothing(recipe_of):
    assert said(recipe_of(train__dp=OWN, loss__alpha=0.0)) == (
        "The student is (2, 1e-06)-DP for each of the 24 texts that it was trained on."
    )


def test_a_student_that_begins_with_weights_leans_on_them(recipe_of):
    student = {"checkpoint": "org/small", "reinitialise": False}
    sentence = said(recipe_of(train__dp=OWN, loss__alpha=0.0, student=student))
    assert sentence.endswith("provided that org/small never saw it.")


def test_copied_layers_are_the_teachers(recipe_of, teacher_folder):
    student = {"every_nth_layer": 2, "reinitialise": False}
    sentence = said(recipe_of(train__dp=OWN, loss__alpha=0.0, student=student))
    assert sentence.endswith(f"provided that {teacher_folder} never saw it.")


def test_a_cache_has_a_teacher_too(recipe_of, tmp_path):
    teacher = {"cache": {"folder": str(tmp_path)}}
    sentence = said(recipe_of(train__dp=OWN, teacher=teacher, student={"checkpoint": "org/small"}))
    assert sentence.endswith("provided that the teacher of teacher.cache never saw it.")


def test_two_trainings_on_the_same_texts_add_up(recipe_of, tuned):
    assert said(recipe_of(train__dp=OWN, teacher={"model": tuned(DP)})) == (
        "The student is (10, 1.1e-05)-DP for each of the 24 texts that it was trained on ((8, 1e-05)-DP and"
        " (2, 1e-06)-DP of two trainings, added up), provided that org/base never saw it."
    )


def test_a_dp_teacher_covers_a_student_that_saw_other_texts(recipe_of, tuned, others):
    assert said(recipe_of(teacher={"model": tuned(DP)}, data__distil_on=others)) == (
        "The student is (8, 1e-05)-DP for each text that its teacher was trained on, if data.distil_on does not hold"
        " it; about the texts of data.distil_on nothing is guaranteed, provided that org/base never saw it."
    )


def test_a_dp_teacher_does_not_cover_a_student_that_saw_the_texts(recipe_of, tuned):
    assert said(recipe_of(teacher={"model": tuned(DP)})) == (
        "Nothing is guaranteed about any text: the student was trained on the texts themselves without DP, although"
        " its teacher is (8, 1e-05)-DP for them."
    )


@pytest.mark.parametrize("roles", [("private", "plain"), ("plain", "private")])
@pytest.mark.parametrize("key", ["distil_on", "generate_from"])
def test_one_model_with_dp_does_not_cover_another_without(recipe_of, tuned, others, tmp_path, roles, key):
    """A teacher with DP and weights that the student begins with without, or the other way round."""
    folders = {"private": tuned(DP, "private"), "plain": tuned(None, "plain")}
    teacher, student = (folders[role] for role in roles)
    data = {"distil_on": others, "generate_from": {"folder": str(tmp_path / "written")}}
    begun = {"checkpoint": student, "reinitialise": False}
    assert said(recipe_of(teacher={"model": teacher}, student=begun, **{f"data__{key}": data[key]})) == (
        f"Nothing is guaranteed about any text: {folders['plain']}, of which the student has something, learnt its"
        " texts without DP."
    )


def test_each_text_has_the_guarantee_of_who_saw_it(recipe_of, tuned, others):
    assert said(recipe_of(train__dp=OWN, teacher={"model": tuned(DP)}, data__distil_on=others)) == (
        "The student is (8, 1e-05)-DP for each text that its teacher alone was trained on, (2, 1e-06)-DP for each of"
        " the 24 texts of data.distil_on, and (10, 1.1e-05)-DP for one that both saw, provided that org/base never saw"
        " it."
    )


def test_a_dp_teacher_that_teaches_nothing_promises_nothing(recipe_of, tuned):
    assert said(recipe_of(teacher={"model": tuned(DP)}, loss__alpha=0.0)) == ""


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        (
            {"teacher__fine_tune": {"folder": "t"}},
            r"train\.dp: the teacher learnt its texts without dp.*add teacher\.dp",
        ),
        ({"train__precision": "bf16"}, r"set train\.precision: fp32"),
        ({"loss": {"compat": "paper"}}, r"remove loss\.compat"),
        ({"interventions": {"selection": "s", "non_vulnerable": True}}, "'non_vulnerable' chooses the texts"),
        ({"interventions": {"selection": "s", "vulnerable_plus": 0.1}}, "'vulnerable_plus' chooses the texts"),
        ({"interventions": {"selection": "s", "random_drop": True}}, "'random_drop' chooses the texts"),
        (
            {"teacher": {"config": {"model_type": "gpt2"}, "fine_tune": {"folder": "t"}}, "loss__alpha": 0.0},
            "has a tokenizer made of the texts",
        ),
    ],
)
def test_a_recipe_that_promises_more_than_holds_is_refused(recipe_of, changes, why):
    with pytest.raises(InputError, match=why):
        recipe_of(train__dp=OWN, **changes)


@pytest.mark.parametrize(
    ("teacher", "why"),
    [
        ({"model": "org/base"}, "'dp' is of the fine-tuning on the members: add 'fine_tune'"),
        ({"config": {"model_type": "gpt2"}, "fine_tune": {"folder": "t"}}, "has a tokenizer made of the texts"),
    ],
)
def test_a_dp_teacher_needs_something_to_protect(recipe_of, teacher, why):
    with pytest.raises(InputError, match=why):
        recipe_of(teacher={**teacher, "dp": DP})


def test_what_is_possible_is_not_refused(recipe_of):
    tuned = {"folder": "t"}
    recipe_of(train__dp=OWN, teacher__fine_tune=tuned, teacher__dp=DP)
    recipe_of(train__dp=OWN, teacher__fine_tune=tuned, loss__alpha=0.0)
    recipe_of(train__dp=OWN, interventions={"random_keep": 0.5, "nonorm": True, "bottleneck": 4})
    recipe_of(teacher__fine_tune=tuned, teacher__dp=DP, interventions={"selection": "s", "non_vulnerable": True})


def test_a_folder_of_a_teacher_without_dp_is_refused(recipe_of, tuned):
    """A study's students are given their teacher as a folder, like anybody's ready-made one."""
    check_run(recipe_of(train__dp=OWN, teacher={"model": tuned(DP)}))
    check_run(recipe_of(teacher={"model": tuned(None)}))
    check_run(recipe_of(train__dp=OWN, teacher={"model": tuned(None)}, loss__alpha=0.0))
    with pytest.raises(
        InputError, match=r"train\.dp: teacher\.model \(.*tuned\): the teacher learnt its texts without"
    ):
        check_run(recipe_of(train__dp=OWN, teacher={"model": tuned(None)}))
    began = {"checkpoint": tuned(None), "reinitialise": False}
    with pytest.raises(InputError, match=r"student\.checkpoint .*begin with another model"):
        check_run(recipe_of(train__dp=OWN, student=began))
    with pytest.raises(InputError, match="a tokenizer made of the texts"):
        check_run(recipe_of(train__dp=OWN, teacher={"model": tuned(DP, config={"model_type": "gpt2"})}, loss__alpha=0))


def test_what_a_dp_teacher_writes_carries_its_guarantee_alone(recipe_of, tuned, others, tmp_path):
    recipe = recipe_of(teacher={"model": tuned(DP)}, data__generate_from={"folder": str(tmp_path / "g")})
    assert said(recipe) == (
        "The student is (8, 1e-05)-DP for each text that its teacher was trained on, provided that org/base never"
        " saw it."
    )
    begun = recipe_of(
        teacher={"model": tuned(DP)}, data__generate_from={"folder": str(tmp_path / "g"), "beginnings": others}
    )
    assert "about the texts of data.generate_from.beginnings nothing is guaranteed" in said(begun)
    undefended = recipe_of(loss__alpha=0.0, data__generate_from={"folder": str(tmp_path / "g")})
    assert said(undefended) == ""


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"data__generate_from": {"folder": "g"}}, "it would be about what the teacher writes, not about your texts"),
        ({"loss__on_policy": 0.5}, "steps on the student's own texts are not made under DP"),
    ],
)
def test_dp_on_texts_that_models_write_is_refused(recipe_of, changes, why):
    with pytest.raises(InputError, match=f"train.dp: {why}"):
        recipe_of(train__dp=OWN, **changes)
