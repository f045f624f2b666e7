"""Whatever stands in a recipe or a study: it is read as it is written, or one InputError names the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from mutate import mutated, places

from midistill_tasks.errors import InputError
from midistill_tasks.recipes.file import dump_recipe, find_recipe, read_yaml
from midistill_tasks.recipes.schema import Recipe
from midistill_tasks.study.check import check_output
from midistill_tasks.study.recipe import Study

KINDS = {
    Recipe: ("bios", "gpt2-to-distilgpt2", "pythia-160m-to-distilpythia"),
    Study: ("study-bios", "study-brown", "study-brown-null", "study-pythia"),
}
WHOLE = {
    (kind, name): yaml.safe_load(find_recipe(name, studies=kind is Study).read_text(encoding="utf-8"))
    for kind, names in KINDS.items()
    for name in names
}
KEYS = sorted({str(part) for recipe in WHOLE.values() for path in places(recipe) for part in path})


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "recipe.yaml"


def read(path: Path, kind: Any, text: bytes, overrides: list[str] | None = None) -> Any:
    path.write_bytes(text)
    try:
        return read_yaml(path, kind, overrides or [])
    except InputError as error:
        assert str(path) in str(error) or "--set" in str(error), error  # noqa: PT017 (either is right)
        assert "\n" not in str(error)  # noqa: PT017
        return None


def has(given: Any, made: Any) -> bool:
    """Whether all that was given is in what was made of it; null stands for what is left out, a word for a section."""
    if given == "teacher" and isinstance(made, dict):  # data.generate_from
        return "folder" in made
    if isinstance(given, dict) and isinstance(made, dict):
        return all(key in made and has(value, made[key]) for key, value in given.items())
    return given is None or made == given or (isinstance(given, bool | int | float | str) and str(given) == str(made))


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_a_changed_recipe_is_read_as_it_is_or_refused(kind: Any, path: Path, data: st.DataObject) -> None:
    whole = WHOLE[kind, data.draw(st.sampled_from(KINDS[kind]))]
    changed = data.draw(mutated(whole, st.sampled_from(KEYS) | st.text(max_size=6)))
    recipe = read(path, kind, yaml.safe_dump(changed, allow_unicode=True).encode("utf-8", "surrogatepass"))
    if recipe is not None:
        assert has(changed, recipe.model_dump(mode="json")), changed
        assert repr(read(path, kind, dump_recipe(recipe).encode())) == repr(recipe)  # by repr, since NaN != NaN


@pytest.mark.parametrize("kind", KINDS)
@given(st.binary(max_size=60) | st.text(st.sampled_from("ab:-{}[],&*!|>'\"#\n\t 0~@%é"), max_size=60).map(str.encode))
def test_bytes_that_may_be_no_yaml(kind: Any, path: Path, text: bytes) -> None:
    read(path, kind, text)


@given(
    st.lists(
        st.builds("{}={}".format, st.sampled_from([*KEYS, "train.epochs", "data.n", "a..b"]), st.text(max_size=8))
        | st.text(max_size=10),
        max_size=3,
    )
)
def test_overrides(path: Path, overrides: list[str]) -> None:
    read(path, Recipe, yaml.safe_dump(WHOLE[Recipe, "bios"]).encode(), overrides)


@given(data=st.data())
def test_a_stored_study_that_was_changed(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.getbasetemp() / "stored"
    folder.mkdir(exist_ok=True)
    whole = WHOLE[Study, "study-bios"] | {"output": str(folder)}
    stored = data.draw(mutated(whole, st.sampled_from(KEYS)))
    (folder / "study.yaml").write_bytes(yaml.safe_dump(stored, allow_unicode=True).encode("utf-8", "surrogatepass"))
    try:
        check_output(Study.model_validate(whole))
    except InputError as error:
        assert str(folder) in str(error)  # noqa: PT017 (either is right)
