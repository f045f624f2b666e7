"""A study sets every option of attacks, run and split, strictly, and the harness gets them."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from midistill_tasks.errors import InputError
from midistill_tasks.harness.options import known_options, parse_options
from midistill_tasks.recipes.data import Data
from midistill_tasks.recipes.file import dump_recipe
from midistill_tasks.study.check import check_output
from midistill_tasks.study.options import Evaluate
from midistill_tasks.study.recipe import Study
from midistill_tasks.study.run import load_study, run_study
from midistill_tasks.study.texts import study_options
from midistill_tasks.study.work import Work


def made(output: str = "out", split: str = "bios", data: dict | None = None, **evaluate) -> Study:
    return Study.model_validate(
        {
            "output": output,
            "teacher": {"model": "some-teacher"},
            "models": {"student": "some-student"},
            "data": {"split": split, **(data or {})},
            "evaluate": evaluate,
        }
    )


def test_every_option_of_metadata_is_a_key_of_the_study():
    of_parts = {"shard"}  # a study evaluates whole splits
    assert set(known_options()) - of_parts <= {*Evaluate.model_fields, *Data.model_fields}


def test_a_remedy_names_a_key_of_the_study(tmp_path):
    files = {}
    for name, count in (("members", 9), ("nonmembers", 3)):
        files[name] = str(tmp_path / f"{name}.txt")
        Path(files[name]).write_text("".join(f"{name} {number}\n" for number in range(count)))
    with pytest.raises(InputError, match=r"give more non-members, or fewer shots with evaluate\.shots: …$"):
        _ = Work(made(split="files", data=files)).documents


def test_a_flat_key_reaches_every_attack_that_has_it_and_a_section_one():
    options = parse_options({"mia": study_options(made(k=0.3, minkpp={"k": 0.4}, recall={"as_published": True}))})
    assert options.attacks["mink"] == {"k": 0.3}
    assert options.attacks["minkpp"] == {"k": 0.4}
    assert options.attacks["recall"] == {"as_published": True}


@pytest.mark.parametrize("section", [{}, {"entropy": True}])
def test_the_recipe_with_all_defaults_written_out_says_the_same(section, tmp_path):
    study = made(k=0.5, surp=section)
    (tmp_path / "study.yaml").write_text(dump_recipe(study))
    read = load_study(str(tmp_path / "study.yaml"), [])
    assert read == study
    assert parse_options({"mia": study_options(read)}).attacks["surp"]["k"] == 0.5


def test_another_option_for_all_attacks_is_another_study_though_an_attack_has_a_section_of_its_own(tmp_path):
    before, after = (made(str(tmp_path), attacks=["surp"], k=k, surp={"entropy": True}) for k in (0.5, 0.6))
    (tmp_path / "study.yaml").write_text(dump_recipe(before))
    with pytest.raises(InputError, match=r"another evaluate\.surp\.k \(0\.5 there, 0\.6 here\)"):
        check_output(after)


def test_what_a_study_does_not_say_is_each_attacks_own_default():
    assert parse_options({"mia": study_options(made())}) == parse_options({})


def test_options_of_the_run_and_of_the_split_reach_the_tasks():
    study = made(split="mimir_arxiv", data={"ngram": "ngram_7_0.2"}, shots=4, first_token="prefix", log_text=False)
    options = parse_options({"mia": study_options(study)})
    assert options.splits["mimir_arxiv"]["ngram"] == "ngram_7_0.2"
    assert options.texts.shots == 4
    assert options.run.first_token == "prefix"
    assert not options.run.log_text


@pytest.mark.parametrize(
    ("evaluate", "said"),
    [
        ({"k": 2}, "evaluate.k"),
        ({"minkpp": {"k": 2}}, "minkpp"),
        ({"minkpp": {"kk": 0.3}}, "minkpp.kk"),
        ({"first_token": "prefix", "recall": {"as_published": True}}, "'as_published' of recall"),
        ({"attacks": ["loss", "ref"]}, "'ref' needs 'reference'"),
    ],
)
def test_a_wrong_one_is_refused_when_the_study_is_read(evaluate, said):
    with pytest.raises(ValidationError) as error:
        made(**evaluate)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("reference", "model"),
    [
        (None, None),
        ("base", None),
        ("a/model", ("a/model", None)),
        ({"pretrained": "a/model", "revision": "step1"}, ("a/model", "step1")),
    ],
)
def test_a_reference_is_any_that_the_tasks_take(reference, model):
    evaluate = made(reference=reference).evaluate
    assert ("ref" in evaluate.chosen) == (reference is not None)
    assert evaluate.reference_model == model


def test_options_said_otherwise_are_the_same_study(tmp_path: Path):
    """0.1.0 wrote `k: 0.2`, which stands for what is now each attack's own default."""
    from midistill_tasks.recipes.file import dump_recipe

    (tmp_path / "study.yaml").write_text(dump_recipe(made(str(tmp_path), k=0.2)))
    check_output(made(str(tmp_path)))
    check_output(made(str(tmp_path), k=0.5, mink={"k": 0.2}, minkpp={"k": 0.2}))
    with pytest.raises(InputError, match=r"another evaluate\.minkpp\.k \(0\.2 there, 0\.5 here\)"):
        check_output(made(str(tmp_path), minkpp={"k": 0.5}))


def test_a_study_loads_its_texts_once(tmp_path: Path, shared: Path, monkeypatch):
    """For its plan, its selection, its students and the tasks of each evaluation."""
    from midistill_tasks.splits import documents

    prepared = []
    original = documents.prepare
    monkeypatch.setattr(documents, "prepare", lambda *given: prepared.append(given[2]) or original(*given))
    for name in ("members", "nonmembers"):
        (tmp_path / f"{name}.txt").write_text("\n".join(f"the {name} text number {one} of many" for one in range(12)))
    model = str(shared / "models" / "stories260K")
    study = Study.model_validate(
        {
            "output": str(tmp_path / "study"),
            "teacher": {"model": model},
            "student": {"every_nth_layer": 2},
            "data": {name: str(tmp_path / f"{name}.txt") for name in ("members", "nonmembers")},
            "train": {"epochs": 1, "warmup_steps": 0},
            "arms": {"kept": {"non_vulnerable": True}},
            "evaluate": {"attacks": ["loss", "mink"], "shots": 3},
        }
    )
    assert run_study(study).failed == {}
    assert prepared == ["files"]
