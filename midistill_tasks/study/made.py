"""Whether what a study's folder holds of an arm, a model or its teacher was made as the recipe says now."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from midistill_tasks.distill.fine_tune import is_made
from midistill_tasks.distill.run_folder import RECIPE, another, flat
from midistill_tasks.errors import InputError
from midistill_tasks.models.loading import MODEL_ARGS, split_args
from midistill_tasks.recipes.file import read_stored
from midistill_tasks.recipes.schema import Recipe
from midistill_tasks.study.recipe import Study
from midistill_tasks.study.steps.train import student_recipe
from midistill_tasks.study.texts import study_data, teachers_texts

Definition = dict[str, Any]
"""Dotted key → value."""


def check_arms(study: Study, earlier: Mapping[str, Any]) -> None:
    """Looks whether students, and figures of them, that are there are of these arms.

    Args:
        study: as it is to be now.
        earlier: its recipe when it was run last.

    Raises:
        InputError: an arm has changed since.
    """
    root, before = Path(study.output), _definitions_of(earlier)
    for arm, ours in _definitions(study).items():
        there = [place for place in _places(arm) if _holds_any(root, place)]
        known = [before[arm]] if there and arm in before else []
        for theirs in (*known, *_of_students(root / "students" / arm)):
            differing = sorted(key for key in {**theirs, **ours} if theirs.get(key) != ours.get(key))
            if differing:
                places = " and ".join(str(root / place) for place in there)
                raise InputError(
                    f"arms.{arm}: {root} holds students of this name with {another(differing, theirs, ours)}: give the "
                    f"arm another name, or remove {places} to have them made anew"
                )


def check_models(study: Study) -> None:
    """Looks whether figures that are there are of these ready-made models.

    Raises:
        InputError: they are of another one.
    """
    for name, model in study.models.items():
        folder = Path(study.output) / "results" / name
        place, args = split_args(model, f"models.{name}")
        ours = {"dtype": study.evaluate.dtype, **study.evaluate.model_args, "pretrained": place, **args}
        for theirs in _evaluated(folder):
            for key in ("pretrained", *MODEL_ARGS):
                if theirs.get(key) != ours.get(key):
                    raise InputError(
                        f"models.{name}: {folder} holds figures of another model ({key} {theirs.get(key)!r} there, "
                        f"{ours.get(key)!r} here): give it another name, or remove {folder} to have them made anew"
                    )


def check_teacher(study: Study) -> None:
    """Looks whether a fine-tuned teacher that is there is the study's; another study may have made it.

    Raises:
        InputError: it is another one.
    """
    tune = study.teacher.fine_tune
    if tune is None or not Path(tune.folder).exists():
        return
    try:
        texts = teachers_texts(study)
    except InputError:  # whoever needs them says so
        return
    is_made(study.teacher, tune, study_data(study), texts)


def _places(arm: str) -> list[str]:
    """Below the study's folder: where students of an arm are, those of its frontier and of shadows, and figures."""
    own = [f"{kind}/{arm}{frontier}" for frontier in ("", "@*") for kind in ("students", "results")]
    return [*own, *(f"shadows/*/{kind}/{arm}" for kind in ("students", "results"))]


def _holds_any(root: Path, place: str) -> bool:
    """Also one that was begun, but neither locks nor what a killed process has left beside."""
    return any(path.is_dir() and not path.name.endswith("unfinished") for path in root.glob(f"{place}/*"))


def _definitions(study: Study) -> dict[str, Definition]:
    """Of each arm that is a recipe."""
    found = {}
    for arm in study.arms:
        with suppress(ValueError):  # the step that trains it says why
            found[arm] = _definition(student_recipe(study, f"{arm}/{study.seeds[0]}").model_dump(mode="json"))
    return found


def _definitions_of(stored: Mapping[str, Any]) -> dict[str, Definition]:
    try:
        return _definitions(Study.model_validate(stored))
    except ValidationError:  # a package is gone: its students have their own recipes
        return {}


def _of_students(folder: Path) -> Iterator[Definition]:
    for path in sorted(folder.glob(f"*/{RECIPE}")):
        yield _definition(read_stored(path, Recipe))


def _definition(recipe: Mapping[str, Any]) -> Definition:
    """What a student's recipe says of its arm: all but what is the study's own, or the seed's.

    What is below the study's folder is named from there, as that may be moved.
    """
    root = Path(*Path(recipe["output"]).parts[:-3])  # of students/ARM/SEED
    own = {name: recipe.get(name) for name in ("student", "loss", "interventions", "train")}
    data = {name: (recipe.get("data") or {}).get(name) for name in ("distil_on", "generate_from")}
    return {key: _from(root, value) for key, value in flat({**own, "data": data}).items()}


def _from(root: Path, value: Any) -> Any:
    inside = isinstance(value, str) and Path(value).is_relative_to(root)
    return str(Path(value).relative_to(root)) if inside else value


def _evaluated(folder: Path) -> Iterator[Mapping[str, Any]]:
    """The model and its args, of each evaluation in the folder that says them one by one."""
    for path in sorted(folder.glob("[0-9]/**/results_*.json")):  # not what a killed process left beside
        with suppress(ValueError):  # damaged: the report says so
            args = json.loads(path.read_text(encoding="utf-8"))["config"].get("model_args")
            if isinstance(args, Mapping):
                yield args
