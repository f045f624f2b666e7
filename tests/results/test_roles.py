"""Which runs a report shows: places, names, the teacher."""

from __future__ import annotations

import numpy as np
import pytest

from midistill_tasks.errors import InputError
from midistill_tasks.results.roles import MANIFEST, read_group


@pytest.mark.parametrize(
    ("teacher", "said"), [("m9", "is none of the models"), ("m", "is none of the models (did you mean")]
)
def test_a_teacher_that_is_not_there_is_refused(write_output, draw, tmp_path, teacher, said):
    labels, scores = draw(np.random.default_rng(5), 60)
    for name in ("m1", "m2"):
        write_output(tmp_path / name, labels, {"loss": scores}, f"org/{name}")
    with pytest.raises(InputError, match="the teacher") as error:
        read_group([tmp_path], teacher)
    assert said in str(error.value)


def test_a_teacher_may_be_named_by_the_folder_that_was_given(write_output, draw, tmp_path):
    labels, scores = draw(np.random.default_rng(5), 60)
    for name in ("t", "s"):
        write_output(tmp_path / name / "below", labels, {"loss": scores}, f"org/{name}")
    group = read_group([tmp_path / "t", f"vanilla={tmp_path / 's'}"], f"{tmp_path / 't'}/")
    assert (group.teacher.name, [entry.name for entry in group.arms]) == ("t", ["vanilla"])


def test_models_side_by_side_have_no_teacher(write_output, draw, tmp_path):
    labels, scores = draw(np.random.default_rng(5), 60)
    for name in ("a", "b"):
        write_output(tmp_path / name, labels, {"loss": scores}, f"org/{name}")
    assert read_group([tmp_path], "b").teacher_run.model == "b"
    with pytest.raises(InputError, match="none of a, b was named as the teacher"):
        _ = read_group([tmp_path]).teacher_run


def test_equal_names_make_one_arm(write_output, draw, tmp_path):
    labels, scores = draw(np.random.default_rng(6), 100)
    for name in ("t", "a", "b"):
        write_output(tmp_path / name, labels, {"loss": scores}, f"org/{name}")
    group = read_group([tmp_path / "t", f"arm={tmp_path / 'a'}", f"arm={tmp_path / 'b'}"], "t")
    assert [(entry.name, len(entry.runs)) for entry in group.entries] == [("t", 1), ("arm", 2)]


def test_a_study_stands_alone_on_its_page(tmp_path):
    study = tmp_path
    (study / MANIFEST).write_text("{}")
    for places, teacher in (([study, study], None), ([study], "teacher"), ([f"x={study}"], None)):
        with pytest.raises(InputError, match="is a study, which says itself who is the teacher"):
            read_group(places, teacher)


def test_a_teacher_given_by_its_place_is_not_another_model_of_that_name(write_output, draw, tmp_path, monkeypatch):
    labels, scores = draw(np.random.default_rng(5), 60)
    write_output(tmp_path / "base", labels, {"loss": scores}, "models/v1")
    student = write_output(tmp_path / "student", labels, {"loss": scores}, "models/base")
    monkeypatch.chdir(tmp_path)
    assert read_group(["base", "student"], "base").teacher.name == "v1"
    assert read_group(["base", "student"], f"./student/{student.name}").teacher.name == "base"


def test_models_are_called_by_as_much_of_their_path_as_tells_them_apart(write_output, draw, tmp_path):
    labels, scores = draw(np.random.default_rng(5), 60)
    for place, model in (("a", "out/students/vanilla/0"), ("b", "out/students/vanilla/1"), ("c", "org/pythia")):
        write_output(tmp_path / place, labels, {"loss": scores}, model)
    assert [entry.name for entry in read_group([tmp_path]).entries] == ["vanilla/0", "vanilla/1", "org/pythia"]
