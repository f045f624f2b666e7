"""What would end a study after hours of work, found before it begins."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from transformers import AutoConfig

from midistill_tasks.distill.run_folder import another, flat
from midistill_tasks.errors import InputError
from midistill_tasks.files import writing
from midistill_tasks.locks import is_empty
from midistill_tasks.models.architectures import register
from midistill_tasks.models.loading import from_pretrained
from midistill_tasks.recipes.file import read_stored
from midistill_tasks.splits.sources import local_files
from midistill_tasks.study.folders import data_folder
from midistill_tasks.study.graph import Part
from midistill_tasks.study.made import check_arms, check_models, check_teacher
from midistill_tasks.study.options import resolved
from midistill_tasks.study.recipe import Study
from midistill_tasks.study.texts import DIVIDED
from midistill_tasks.study.work import Work

STUDY = "study.yaml"
"""The recipe of the study that a folder holds."""
GROWS = ("arms", "models", "controls", "seeds", "shadows", "resources")
"""What may be added to a study that has begun, or says where it runs. Of arms and models what was made under a name
must stay as it was (`made`); a student that is there is never overwritten."""
HASHES = "inputs.json"
"""Beside the study's recipe: file of texts → its SHA-256 when the study began (of a folder of data there is none)."""


def check_output(study: Study) -> None:
    """Looks at what the study's folder holds.

    Raises:
        InputError: where that is another study, with the keys that differ, students or figures of what the recipe
            says otherwise by now, or something else; where it cannot be looked at.
    """
    path = Path(study.output) / STUDY
    with writing(f"output: {study.output}"):
        is_study = path.is_file()
        is_other = not is_study and path.parent.exists() and not (path.parent.is_dir() and is_empty(path.parent))
    if is_other:
        raise InputError(f"output: {study.output} exists and holds no study: give an empty or a new folder")
    if is_study:
        stored = read_stored(path, Study)
        earlier, ours = (_fixed(recipe) for recipe in (stored, study.model_dump(mode="json")))
        differing = [key for key in {**earlier, **ours} if earlier.get(key) != ours.get(key)]
        if differing:
            raise InputError(
                f"output: {study.output} holds a study with {another(differing, earlier, ours)}: give the same recipe "
                "and --set as then, or another output"
            )
        check_arms(study, stored)
        check_models(study)


def _fixed(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted key → value of what must not change: without what may grow and without the folder, which may be moved."""
    fixed = {key: value for key, value in recipe.items() if key not in ("output", *GROWS)}
    output = recipe.get("output")
    with suppress(ValidationError, KeyError, TypeError):  # written when a package was there that an option came from
        fixed["evaluate"] = resolved(recipe["evaluate"])
    keys = flat(fixed)
    folder = "teacher.fine_tune.folder"
    return keys | {folder: None} if keys.get(folder) == f"{output}/teacher" else keys


def check(work: Work, left: Sequence[Part]) -> None:
    """Looks at what the parts that are `left` will need.

    Raises:
        InputError: for a file of texts that is not there or is not the one that the study began with, another study's
            teacher in the place of this one's, a model whose config cannot be loaded, or what a step itself looks at
            (an arm that is no recipe, an unknown task).
    """
    if not left:
        return
    _check_files(work.study)
    check_teacher(work.study)
    register()
    models = {key: model for part in left for key, model in work.step(part).loads(work.study, part).items()}
    for key, (name, revision) in models.items():
        from_pretrained(AutoConfig, name, key, revision=revision)
    for name, step in work.steps.items():
        if parts := [part for part in left if part.step == name]:
            step.check(work, parts)


def hashes(study: Study) -> Mapping[str, str]:
    """What `HASHES` holds."""
    return {file: _sha256(file) for _, file in _files(study) if Path(file).expanduser().is_file()}


def _check_files(study: Study) -> None:
    known = Path(study.output) / HASHES
    began_with = json.loads(known.read_text(encoding="utf-8")) if known.is_file() else {}
    files = _files(study)
    for key, file in files:
        if not Path(file).expanduser().exists():
            raise InputError(f"{key}: there is no file '{file}'; relative paths start at {Path.cwd()}")
    now = hashes(study) if began_with and files else began_with
    for file in sorted({*began_with, *now}):  # also those that a glob catches only now, or no more
        if began_with.get(file) != now.get(file):
            key = next((key for key, other in files if other == file), files[0][0])
            raise InputError(
                f"{key}: {file} has changed since this study began, so its figures would not compare: restore the file "
                "as it was, or give another output"
            )


def _files(study: Study) -> list[tuple[str, str]]:
    """Key of the recipe, and file of texts (or a folder of data) that is still to be read."""
    if study.documents:
        divided = (data_folder(study) / DIVIDED).is_file()
        sources = {} if divided else {"documents.path": study.documents.path}
    else:
        keys = ("members", "nonmembers", "distil_on", "dataset_path")
        sources = {f"data.{key}": value for key in keys if (value := getattr(study.data, key)) is not None}
    return [(key, file) for key, source in sources.items() for file in local_files(source)]


def _sha256(path: str) -> str:
    return hashlib.sha256(Path(path).expanduser().read_bytes()).hexdigest()
