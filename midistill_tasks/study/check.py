"""What would end a study after hours of work, found before it begins."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from transformers import AutoConfig

from midistill_tasks.distill.run_folder import flat
from midistill_tasks.errors import InputError
from midistill_tasks.models.architectures import register
from midistill_tasks.models.loading import from_pretrained
from midistill_tasks.recipes.file import read_stored
from midistill_tasks.splits.sources import local_files
from midistill_tasks.study.evaluate import Harness
from midistill_tasks.study.recipe import Study
from midistill_tasks.study.steps import TEACHER, Step, student_recipe
from midistill_tasks.study.texts import DIVIDED

STUDY = "study.yaml"
"""The recipe of the study that a folder holds."""
GROWS = ("arms", "models", "controls", "seeds")
"""What may be added to a study that has begun; a student that is there is never overwritten."""
HASHES = "inputs.json"
"""Beside the study's recipe: file of texts → its SHA-256 when the study began (of a folder of data there is none)."""


def check_output(study: Study) -> None:
    """Looks at what the study's folder holds.

    Raises:
        InputError: where that is another study, with the keys that differ, or something else.
    """
    path = Path(study.output) / STUDY
    if path.is_file():
        earlier, ours = _fixed(read_stored(path, Study)), _fixed(study.model_dump(mode="json"))
        differing = [key for key in {**earlier, **ours} if earlier.get(key) != ours.get(key)]
        if differing:
            key = differing[0]
            more = f" and {len(differing) - 1} more" if len(differing) > 1 else ""
            raise InputError(
                f"output: {study.output} holds a study with another {key} ({earlier.get(key)!r} there, "
                f"{ours.get(key)!r} here{more}): give the same recipe and --set as then, or another output"
            )
    elif path.parent.exists() and any(path.parent.iterdir()):
        raise InputError(f"output: {study.output} exists and holds no study: give an empty or a new folder")


def _fixed(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted key → value of what must not change: without what may grow and without the folder, which may be moved."""
    keys = flat({key: value for key, value in recipe.items() if key not in ("output", *GROWS)})
    folder = "teacher.fine_tune.folder"
    return keys | {folder: None} if keys.get(folder) == f"{recipe['output']}/teacher" else keys


def check(study: Study, left: Sequence[Step], harness: Harness) -> None:
    """Looks at what the steps that are `left` will need.

    Raises:
        InputError: for a file of texts that is not there or is not the one that the study began with, a model whose
            config cannot be loaded, an arm that is no recipe, or a task that the harness does not know.
    """
    if not left:
        return
    _check_files(study)
    register()
    for key, (name, revision) in _models(study, left).items():
        if name.startswith((".", "/", "~")) and not Path(name).exists():
            raise InputError(f"{key}: there is no folder '{name}'; relative paths start at {Path.cwd()}")
        from_pretrained(AutoConfig, name, key, revision=revision)
    for arm in study.arms:
        try:
            student_recipe(study, arm, study.seeds[0])
        except ValidationError as error:
            raise InputError(f"arms.{arm}: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from None
    if any(step.what == "evaluate" for step in left):
        harness.check_tasks()


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
        divided = (Path(study.output) / "data" / DIVIDED).is_file()
        sources = {} if divided else {"documents.path": study.documents.path}
    else:
        keys = ("members", "nonmembers", "distil_on", "dataset_path")
        sources = {f"data.{key}": value for key in keys if (value := getattr(study.data, key)) is not None}
    return [(key, file) for key, source in sources.items() for file in local_files(source)]


def _models(study: Study, left: Sequence[Step]) -> dict[str, tuple[str, str | None]]:
    """Key of the recipe → hub id or folder, and revision, of those that the steps will load."""
    parts = {step.part for step in left}
    trained = any(step.what == "train" for step in left)
    needed: dict[str, tuple[str | None, str | None]] = {
        f"models.{name}": (model, None) for name, model in study.models.items() if f"{name}/0" in parts
    }
    if TEACHER in parts or (trained and not study.teacher.fine_tune):
        needed["teacher.model"] = (study.teacher.model, study.teacher.revision)
    if trained and study.student:
        needed["student.checkpoint"] = (study.student.checkpoint, None)
        config = study.student.config
        needed["student.config"] = (config if isinstance(config, str) else None, None)
    if "ref" in study.evaluate.chosen and any(step.what == "evaluate" for step in left):
        needed["evaluate.reference"] = (study.evaluate.reference, None)
    return {key: (name, revision) for key, (name, revision) in needed.items() if name is not None}


def _sha256(path: str) -> str:
    return hashlib.sha256(Path(path).expanduser().read_bytes()).hexdigest()
