from __future__ import annotations

from pathlib import Path

import pytest

from midistill_tasks.errors import InputError
from midistill_tasks.recipes.file import describe_recipe, dump_recipe, load_recipe, shipped_recipes
from midistill_tasks.recipes.interventions import needs_selection
from midistill_tasks.splits import SPLITS

GOOD = """\
output: out
teacher:
  model: some-teacher
student:
  every_nth_layer: 2
data:
  members: members.jsonl
train:
  epochs: 5
"""


@pytest.fixture
def write(tmp_path: Path):
    def write(text: str) -> str:
        path = tmp_path / "recipe.yaml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


def test_defaults_are_the_papers_recipe(write):
    recipe = load_recipe(write(GOOD.replace("train:\n  epochs: 5\n", "")))
    assert (recipe.loss.alpha, recipe.loss.temperature, recipe.loss.divergence) == (0.5, 2.0, "forward_kl")
    train = recipe.train
    assert (train.epochs, train.batch_size, train.learning_rate, train.weight_decay) == (30, 8, 1e-3, 0.01)
    assert (train.schedule, train.warmup_steps, train.clip) == ("linear", 500, 1.0)
    assert (recipe.data.max_length, recipe.student.reinitialise) == (128, True)


def test_set_overrides_the_file_and_a_resolved_recipe_reads_back_as_itself(write):
    recipe = load_recipe(write(GOOD), ["train.epochs=3", "interventions.nonorm=true", "train.learning_rate=1e-4"])
    assert (recipe.train.epochs, recipe.interventions.nonorm, recipe.train.learning_rate) == (3, True, 1e-4)
    assert load_recipe(write(dump_recipe(recipe))) == recipe


def test_all_stands_for_the_papers_three_interventions(write):
    recipe = load_recipe(write(GOOD), ["interventions={all: true, selection: s}"])
    assert (recipe.interventions.non_vulnerable, recipe.interventions.nonorm) == (True, True)
    assert recipe.interventions.bottleneck == 192
    assert load_recipe(write(dump_recipe(recipe))) == recipe


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("epochs: 5", "epoch: 5"), "line 9: 'train.epoch' is no option (did you mean 'epochs'?); 'train' knows"),
        (("epochs: 5", "alpha: 0.5"), "line 9: 'train.alpha' is no option here (it belongs to 'loss')"),
        (("train:", "trian:"), "line 8: 'trian' is no option (did you mean 'train'?); a recipe knows"),
        (("epochs: 5", "epochs: many"), "line 9: 'train.epochs': input should be a valid integer"),
        (("epochs: 5", "epochs: 0"), "line 9: 'train.epochs': input should be greater than or equal to 1"),
        (("  members: members.jsonl", "  n: 3"), "line 6: data: split 'files' needs 'members'"),
        (("every_nth_layer: 2", "lora: {rank: 4}"), "line 4: student: give exactly one of"),
        (("every_nth_layer: 2", "{config: x"), "line 6: this is not YAML"),
        (
            ("every_nth_layer: 2", "config: x\n  reinitialise: false"),
            "line 4: student: a 'config' has no weights to keep",
        ),
        (("  epochs: 5", "  epochs: 5\n  epochs: 6"), "line 10: 'train.epochs' stands here a second time"),
        (("output: out\n", ""), "'output' is missing"),
        (("  model: some-teacher", "  cache: {folder: c, size: 3}"), "line 3: 'teacher.cache.size' is no option"),
        (("  model: some-teacher", "  cache: {folder: c}"), "student.every_nth_layer takes layers from the teacher"),
        (("  model:", "  cache: {folder: c, k: 8, samples: 9}\n  model:"), "'k' and 'samples' exclude each other"),
        (("  model:", "  cache: {folder: c, seed: 1}\n  model:"), "'seed' is of the draws: give 'samples'"),
        (
            ("  model: some-teacher", "  model: t\n  cache: {folder: c, samples: 9}\nloss: {divergence: jsd}"),
            "of 'jsd' draws of the teacher tell nothing unbiased: take forward_kl, or",
        ),
    ],
)
def test_a_mistake_is_named_with_its_line_and_the_remedy(write, change, said):
    with pytest.raises(InputError) as error:
        load_recipe(write(GOOD.replace(*change)))
    assert said in str(error.value)
    assert "recipe.yaml" in str(error.value)


@pytest.mark.parametrize(
    ("interventions", "said"),
    [
        ("{non_vulnerable: true}", "'non_vulnerable' needs 'selection'"),
        ("{non_vulnerable: true, random_drop: true, selection: s}", "both choose the texts"),
        ("{bottleneck: 8, same_params: 8}", "control of 'bottleneck'"),
        ("{all: true, nonorm: false, selection: s}", "contradict"),
        ("{vulnerable_plus: 5, selection: s}", "less than or equal to 1"),
        ("{red_list: []}", "at least 1 item"),
    ],
)
def test_impossible_interventions_are_refused(write, interventions, said):
    with pytest.raises(InputError, match=said):
        load_recipe(write(GOOD), [f"interventions={interventions}"])


@pytest.mark.parametrize("text", ["train.epochs", "train.epochs.more=3", "train.epoch=3", "train.epochs=[3"])
def test_a_bad_override_is_named(write, text):
    with pytest.raises(InputError, match="--set"):
        load_recipe(write(GOOD), [text])


def test_lora_needs_weights_to_adapt(write):
    with pytest.raises(InputError, match="reinitialise: false"):
        load_recipe(write(GOOD), ["student.lora={rank: 4}"])


def test_an_unknown_recipe_lists_the_shipped_ones():
    with pytest.raises(InputError, match="did you mean 'bios'"):
        load_recipe("bio")


@pytest.mark.parametrize("name", ["bios", "gpt2-to-distilgpt2", "pythia-160m-to-distilpythia"])
def test_the_shipped_recipes_are_valid(name):
    assert name in shipped_recipes()
    load_recipe(name)


def test_the_description_names_every_key():
    text = describe_recipe()
    for key in ("teacher:", "fine_tune:", "every_nth_layer:", "rank:", "bottleneck:", "audit_every:"):
        assert key in text


def test_an_option_of_a_split_is_a_key_of_data_and_belongs_to_that_split(write):
    hub = GOOD.replace("  members: members.jsonl", "  split: mimir_github")
    data = load_recipe(write(hub), ["data.ngram=ngram_7_0.2"]).data
    assert data.options_of(SPLITS["mimir_github"]) == {"ngram": "ngram_7_0.2"}
    files = load_recipe(write(GOOD)).data
    assert files.options_of(SPLITS["files"]) == {
        **{"members": "members.jsonl", "nonmembers": None, "column": "text", "id_column": None},
    }
    with pytest.raises(InputError, match=r"data: 'ngram' belongs to mimir_arxiv, .*, not to 'files'"):
        load_recipe(write(GOOD), ["data.ngram=ngram_7_0.2"])


def test_old_ways_of_writing_interventions_stay(write):
    given = "{bottleneck: {width: 8}, vulnerable_plus: 0.0, selection: s, temperature: 2, red_list: {tokens: [a]}}"
    interventions = load_recipe(write(GOOD), [f"interventions={given}"]).interventions
    assert (interventions.bottleneck, interventions.vulnerable_plus, interventions.red_list) == (8, 0.0, ["a"])
    assert [chosen.key for chosen in interventions.chosen] == [
        "bottleneck",
        "red_list",
        "temperature",
        "vulnerable_plus",
    ]


@pytest.mark.parametrize(
    ("given", "needed"),
    [
        ({"non_vulnerable": True}, True),
        ({"non_vulnerable": False, "nonorm": True}, False),
        ({"vulnerable_plus": 0.0}, True),
        ({"random_drop": True}, True),
        ({"all": True}, True),
        ({"all": False, "bottleneck": 8}, False),
        ({"bottelneck": 8}, False),
    ],
)
def test_whether_an_arm_needs_a_selection_can_be_asked(given, needed):
    assert needs_selection(given) is needed
