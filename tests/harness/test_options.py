"""What ``--metadata`` may hold: our options, strict, among everybody else's keys."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path
from typing import Any

import pytest

from midistill_tasks.errors import InputError
from midistill_tasks.harness.options import known_options, parse_options


@pytest.mark.parametrize(
    "metadata", [None, {}, {"mia": {}}, {"mia": None}, {"version": 1.0, "config_source": "inline"}]
)
def test_nothing_given_is_the_defaults(metadata: Any):
    options = parse_options(metadata)
    assert options.flat("mink") == {
        **{"k": 0.2, "shots": 2, "reference": None, "first_token": "skip", "as_published": False, "n": None, "seed": 0},
        **{
            "dataset_path": None,
            "log_text": True,
            "members": None,
            "nonmembers": None,
            "column": "text",
            "id_column": None,
        },
        **{"independent_coins": False, "ngram": "ngram_13_0.8", "dataset_revision": None, "entropy": 2.0},
        **{
            "samples": 5,
            "neighbor_model": None,
            "guesses": 16,
            "embedding_model": None,
            "neighbors": 25,
            "norm": "2",
            "group": "all",
            "zlib_weight": True,
            "variants": 5,
            "swapped": 0.3,
            "cap": 0.01,
            "gamma": 0.5,
            "corpus": None,
            "save_stats": None,
            "id_column": None,
            "canaries": None,
        },
    }


def test_options_stand_under_one_key_or_flat_and_the_nested_one_wins():
    assert changed({"mia": {"k": 0.3, "shots": 5}}) == {"k": 0.3, "shots": 5}
    assert changed({"k": 0.3, "log_text": False}) == {"k": 0.3, "log_text": False}
    assert changed({"k": 0.3, "mia": {"k": 0.4}}) == {"k": 0.4}


def changed(metadata: dict[str, Any], attack: str = "mink") -> dict[str, Any]:
    """What differs from the defaults, as the results of an attack keep it."""
    plain = parse_options({}).flat(attack)
    return {key: value for key, value in parse_options(metadata).flat(attack).items() if value != plain[key]}


def test_a_flat_key_reaches_every_attack_that_has_it_and_a_section_one():
    everyone = parse_options({"mia": {"k": 0.3}})
    assert {name: values["k"] for name, values in everyone.attacks.items() if "k" in values} == {
        "mink": 0.3,
        "minkpp": 0.3,
        "surp": 0.3,
    }
    one = parse_options({"mia": {"k": 0.3, "minkpp": {"k": 0.5}}})
    assert (one.attacks["mink"]["k"], one.attacks["minkpp"]["k"]) == (0.3, 0.5)
    assert (one.flat("mink")["k"], one.flat("minkpp")["k"], one.flat("loss")["k"]) == (0.3, 0.5, 0.3)


def test_a_section_is_as_strict_as_the_rest():
    with pytest.raises(InputError, match=r"'mink' has no option 'kk' \(did you mean 'k'\?\); it has k"):
        parse_options({"mia": {"mink": {"kk": 1}}})
    with pytest.raises(InputError, match=r"'loss' has no option 'k'; it has none"):
        parse_options({"mia": {"loss": {"k": 0.3}}})
    with pytest.raises(InputError, match=r"option 'minkpp\.k' input should be less than or equal to 1, got 3"):
        parse_options({"mia": {"minkpp": {"k": 3}}})


def test_what_scores_the_first_token_by_its_own_rule_does_not_go_with_the_prefix():
    with pytest.raises(InputError, match="'as_published' of recall scores the first token in one of its terms only"):
        parse_options({"mia": {"as_published": True, "first_token": "prefix"}})


def test_the_seed_of_a_model_is_not_ours_unless_nested():
    assert parse_options({"seed": 1234}).texts.seed == 0
    assert parse_options({"seed": 1234, "mia": {"seed": 7}}).texts.seed == 7


def test_an_unknown_key_under_mia_names_the_nearest_and_lists_all():
    with pytest.raises(
        InputError,
        match=r"no option 'shot' \(did you mean 'shots'\?\); it knows k, as_published, entropy, cap, gamma, ",
    ):
        parse_options({"mia": {"shot": 3}})
    with pytest.raises(InputError, match=r"no option 'zzz'; it knows"):
        parse_options({"mia": {"zzz": 3}})


@pytest.mark.parametrize(
    ("key", "meant"),
    [("shot", "shots"), ("refrence", "reference"), ("log_texts", "log_text"), ("datasetpath", "dataset_path")],
)
def test_a_flat_near_miss_is_refused(key: str, meant: str):
    with pytest.raises(InputError, match=f"'{key}' looks like the MIA option '{meant}'"):
        parse_options({key: 1})


@pytest.mark.parametrize("key", ["MIA", "mia.k", "Mia.shots"])
def test_options_outside_the_one_object_are_refused(key: str):
    with pytest.raises(InputError, match=rf"'{key}' is not read: .*\"mia\""):
        parse_options({key: {"k": 0.3}})


def _arguments_of_backends() -> set[str]:
    """Of every constructor in the harness's models, read rather than imported: some need packages that are not here."""
    (folder,) = importlib.util.find_spec("lm_eval").submodule_search_locations
    arguments: set[str] = set()
    for source in Path(folder, "models").glob("*.py"):
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name == "__init__":
                arguments |= {argument.arg for argument in (*node.args.args, *node.args.kwonlyargs)}
    return arguments


def test_every_argument_of_every_model_of_the_harness_is_let_through():
    arguments = _arguments_of_backends()
    assert {"pretrained", "dtype", "parallelize", "seed", "base_url"} <= arguments
    for argument in arguments | {"gguf_file", "attn_implementation", "low_cpu_mem_usage", "load_in_4bit"}:
        assert changed({argument: "anything"}) == {}, argument


@pytest.mark.parametrize(
    "key",
    ["tokenizer", "max_seq_lengths", "pretrained", "version", "config_source", "valid_for", "description", "context"],
)
def test_keys_of_other_tasks_are_let_through(key: str):
    assert changed({key: [4096, 8192]}) == {}


@pytest.mark.parametrize(
    ("mia", "place"),
    [
        ({"k": 0}, "k"),
        ({"k": 1.5}, "k"),
        ({"k": "many"}, "k"),
        ({"shots": 0}, "shots"),
        ({"shots": 1.5}, "shots"),
        ({"n": 1}, "n"),
        ({"seed": -1}, "seed"),
        ({"first_token": "always"}, "first_token"),
        ({"as_published": "perhaps"}, "as_published"),
        ({"log_text": "hush"}, "log_text"),
        ({"reference": 3}, "reference"),
        ({"dataset_path": {"wikitext": 3}}, "dataset_path"),
        ({"members": 5}, "members"),
        ({"members": [5]}, "members"),
    ],
)
def test_a_value_of_the_wrong_kind_names_its_option_and_what_was_given(mia: dict[str, Any], place: str):
    with pytest.raises(InputError) as error:
        parse_options({"mia": mia})
    assert f"option '{place}" in str(error.value)
    assert "got " in str(error.value)


def test_mia_itself_must_be_an_object():
    with pytest.raises(InputError, match=r"must hold an object such as .*, not 'k=0.3'"):
        parse_options({"mia": "k=0.3"})


def test_a_local_copy_is_one_path_or_one_per_split():
    assert parse_options({"mia": {"dataset_path": "here"}}).texts.dataset_path == "here"
    assert parse_options({"mia": {"dataset_path": {"wikitext": "here"}}}).texts.dataset_path == {"wikitext": "here"}


def test_every_option_is_described():
    assert all(field.description for _, field in known_options().values())


def test_the_readme_has_every_option_with_its_default_and_meaning():
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    table = readme.split("| option | default | what |")[1].split("\n\n")[0]
    rows = [[cell.strip(" `") for cell in line[1:-1].split("|")] for line in table.splitlines() if "| `" in line]
    documented = {name: (default, what) for name, default, what in rows}
    known = known_options()
    assert documented.keys() == known.keys()
    for name, (_, field) in known.items():
        default, what = documented[name]
        value = field.get_default()
        assert default == ("" if value is None else str(value).lower() if isinstance(value, bool) else str(value)), name
        assert what.endswith(field.description.strip("`")), name


def test_an_option_may_be_swept():
    options = parse_options(
        {"mia": {"k": [0.1, 0.2, 0.2], "minkpp": {"k": 0.5}, "pac": {"variants": [1, 2], "swapped": [0.3]}}}
    )
    assert list(options.variants("mink")) == ["k=0.1", "k=0.2"]
    assert options.variants("mink")["k=0.2"] == {"k": 0.2}
    assert options.variants("minkpp") == {"none": {"k": 0.5}}
    assert options.variants("loss") == {"none": {}}
    assert list(options.variants("surp")) == ["k=0.1", "k=0.2"]
    assert options.variants("pac") == {f"variants={n}": {"variants": n, "swapped": 0.3} for n in (1, 2)}
    two = parse_options({"mia": {"surp": {"k": [0.1, 0.2], "entropy": [1, 2]}}})
    assert list(two.variants("surp")) == [f"k={k} entropy={e}" for k in (0.1, 0.2) for e in (1.0, 2.0)]


def test_each_value_of_a_sweep_is_as_strict_as_one_alone():
    with pytest.raises(InputError, match=r"option 'k' input should be less than or equal to 1, got 3"):
        parse_options({"mia": {"k": [0.1, 3]}})
    with pytest.raises(InputError, match=r"option 'k': the list of values is empty"):
        parse_options({"mia": {"k": []}})
    with pytest.raises(InputError, match="scores the first token in one of its terms only"):
        parse_options({"mia": {"as_published": [False, True], "first_token": "prefix"}})
