from __future__ import annotations

import pytest

from midistill_tasks.errors import InputError
from midistill_tasks.recipes.file import dump_recipe, shipped_recipes
from midistill_tasks.study.run import load_study
from midistill_tasks.study.steps.train import student_recipe

GOOD = """\
output: out
teacher:
  model: some-teacher
student:
  every_nth_layer: 2
data:
  members: members.jsonl
  nonmembers: others.jsonl
arms:
  vanilla:
  kept: {non_vulnerable: true}
controls:
  kept: vanilla
"""


@pytest.fixture
def write(tmp_path):
    def write(text: str) -> str:
        path = tmp_path / "study.yaml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


@pytest.mark.parametrize("name", shipped_recipes(studies=True))
def test_the_shipped_studies_are_valid(name):
    study = load_study(name, [])
    for arm in study.arms:
        student_recipe(study, f"{arm}/{study.seeds[0]}")


def test_a_resolved_study_reads_back_as_itself(write):
    study = load_study(write(GOOD), ["seeds=[1,2]"])
    assert study.seeds == [1, 2]
    assert load_study(write(dump_recipe(study)), []) == study


def test_a_student_is_the_recipe_that_distill_would_take(write):
    recipe = student_recipe(load_study(write(GOOD), []), "kept/7")
    assert (recipe.output, recipe.seed) == ("out/students/kept/7", 7)
    assert recipe.interventions.selection == "out/selection"
    assert recipe.teacher.model == "some-teacher"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("every_nth_layer", "every_nth_layers"), "line 5: 'student.every_nth_layers' is no option (did you mean"),
        (("non_vulnerable: true", "non_vulnerabel: true"), "'arms.kept.non_vulnerabel' is no option (did you mean"),
        (("kept: vanilla", "kept: vanila"), "there is no arm 'vanila' (did you mean 'vanilla'?)"),
        (("data:", "documents: {path: d.jsonl}\ndata:"), "exactly one of 'data' and 'documents'"),
        (("  vanilla:\n", "  'a/b':\n"), "'a/b' cannot name an arm"),
        (("student:\n  every_nth_layer: 2\n", ""), "'arms' need 'student'"),
        (("  nonmembers: others.jsonl\n", ""), "give 'nonmembers', too"),
        (("arms:", "seeds: [1, 1]\narms:"), "give each seed once"),
        (("arms:", "evaluate: {attacks: [ref]}\narms:"), "the attack 'ref' needs 'reference'"),
        (("arms:", "select: {attacks: [lost]}\narms:"), "no attack 'lost' (did you mean 'loss'?)"),
        (("  model: some-teacher", "  model: a\n  config: {model_type: gpt2}"), "'model' and 'config' exclude"),
    ],
)
def test_mistakes_are_named_with_their_remedy(write, change, said):
    with pytest.raises(InputError) as error:
        load_study(write(GOOD.replace(*change)), [])
    assert said in str(error.value)
    assert "study.yaml" in str(error.value)


def test_a_null_control_has_no_vulnerable_members(write):
    text = GOOD.replace(
        "data:\n  members: members.jsonl\n  nonmembers: others.jsonl", "documents: {path: d, null_control: true}"
    )
    with pytest.raises(InputError, match="remove the arms that choose texts"):
        load_study(write(text), [])


def test_an_arm_has_lora_of_its_own(write):
    text = GOOD.replace("every_nth_layer: 2", "{every_nth_layer: 2, reinitialise: false}").replace(
        "student:\n  {", "student: {"
    )
    study = load_study(
        write(text.replace("  vanilla:\n", "  vanilla:\n  adapted: {lora: {rank: 2}, nonorm: true}\n")), []
    )
    adapted, plain = student_recipe(study, "adapted/0"), student_recipe(study, "vanilla/0")
    assert adapted.student.lora.rank == 2
    assert plain.student.lora is None
    assert [each.key for each in adapted.interventions.chosen] == ["nonorm"]
    assert "lora" not in type(adapted.interventions).model_fields
    assert load_study(write(dump_recipe(study)), []) == study


@pytest.mark.parametrize(
    "arms",
    [
        "{one: {}, two: {}}",
        "{one: {all: true, bottleneck: 8}, two: {non_vulnerable: true, nonorm: true, bottleneck: 8}}",
        "{one: {lora: {rank: 8}}, two: {lora: {}}}",
    ],
)
def test_arms_that_would_be_the_same_students_are_refused(arms, write):
    text = GOOD.partition("arms:")[0] + f"arms: {arms}\n"
    with pytest.raises(InputError, match="arms: 'one' and 'two' are equal, so their students would be: remove one"):
        load_study(write(text), [])
    load_study(write(text.replace("two: {", "two: {temperature: 2.0, ")), [])
