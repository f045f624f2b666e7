from __future__ import annotations

import pytest

from midistill_tasks.errors import InputError
from midistill_tasks.recipes.file import dump_recipe, shipped_recipes
from midistill_tasks.study.run import load_study, run_study
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


ARMS = """\
  smoothed: {loss: {label_smoothing: 0.1}, train: {weight_decay: 0.3}}
  written: {data: {generate_from: teacher}, loss: {on_policy: 0.5}}
controls:
"""


def test_an_arm_changes_keys_of_the_recipe_for_its_students_alone(write):
    study = load_study(write(GOOD.replace("controls:\n", ARMS)), ["frontier={}"])
    vanilla, smoothed, written = (student_recipe(study, f"{arm}/0") for arm in ("vanilla", "smoothed", "written"))
    assert (vanilla.loss.label_smoothing, smoothed.loss.label_smoothing) == (0.0, 0.1)
    assert (vanilla.train.weight_decay, smoothed.train.weight_decay) == (0.01, 0.3)
    assert vanilla.data.generate_from is None
    assert written.data.generate_from.folder == "out/generated"
    assert written.data.members == vanilla.data.members
    assert load_study(write(dump_recipe(study)), []) == study
    without = GOOD.replace("  vanilla:\n", ARMS.replace("controls:\n", "")).replace("kept: vanilla", "kept: smoothed")
    with pytest.raises(InputError, match="frontier: no arm is without interventions"):
        load_study(write(without), ["frontier={}"])


@pytest.mark.parametrize(
    ("arm", "said"),
    [
        ("{loss: {alhpa: 1}}", "'arms.new.loss.alhpa' is no option (did you mean 'alpha'?); 'loss' knows alpha"),
        ("{loss: {alpha: 2}}", "arms.new.loss.alpha: Input should be less than or equal to 1"),
        ("{train: {epochs: 0}}", "arms.new.train.epochs: Input should be greater than or equal to 1"),
        ("{data: {n: 4}}", "'arms.new.data.n' is no option"),
        ("{loss: {on_policy: 0.5, alpha: 0}}", "arms.new.loss: 'on_policy' is for D, which alpha 0 leaves out"),
        ("{loss: {}, train: {}}", "'vanilla' and 'new' are equal"),
    ],
)
def test_what_an_arm_cannot_change_is_named(write, arm, said):
    with pytest.raises(InputError) as error:
        load_study(write(GOOD.replace("controls:\n", f"  new: {arm}\ncontrols:\n")), [])
    assert said in str(error.value)


def test_a_file_of_an_arm_that_is_not_there_is_found_before_anything_is_done(studies):
    study = studies(8, 8)(arms={"vanilla": {}, "others": {"data": {"distil_on": "nowhere.jsonl"}}})
    with pytest.raises(InputError, match=r"arms\.others\.data\.distil_on: there is no file 'nowhere\.jsonl'"):
        run_study(study)
