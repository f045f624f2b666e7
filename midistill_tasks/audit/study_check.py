"""What would end a study after hours of work, found before it begins."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from transformers import AutoConfig

from midistill_tasks.audit.study_data import DIVIDED
from midistill_tasks.audit.study_harness import Harness
from midistill_tasks.audit.study_recipe import Study
from midistill_tasks.distill.architectures import register
from midistill_tasks.distill.models import from_pretrained
from midistill_tasks.errors import InputError

HASHES = "inputs.json"
"""Beside the study's recipe: file of texts → its SHA-256 when the study began."""


def check(study: Study) -> None:
    """Looks at all that the recipe names.

    Raises:
        InputError: for a file of texts that is not there or is not the one that the study began with, a model that
            cannot be loaded, or a task that the harness does not know.
    """
    for key, path in _files(study).items():
        if not Path(path).is_file():
            raise InputError(f"{key}: there is no file '{path}'; relative paths start at {Path.cwd()}")
    known = Path(study.output) / HASHES
    if known.is_file():
        began_with = json.loads(known.read_text(encoding="utf-8"))
        for key, path in _files(study).items():
            if began_with.get(path, digest := _sha256(path)) != digest:
                raise InputError(
                    f"{key}: {path} has changed since this study began, so its figures would not compare: bring the "
                    "file of then back, or give another output"
                )
    register()
    for key, name in _models(study).items():
        from_pretrained(AutoConfig, name, key)
    Harness(study).check_tasks()


def hashes(study: Study) -> Mapping[str, str]:
    """What `HASHES` holds."""
    return {path: _sha256(path) for path in _files(study).values()}


def _files(study: Study) -> dict[str, str]:
    """Key of the recipe → file of texts that is still to be read."""
    if study.documents:
        divided = (Path(study.output) / "data" / DIVIDED).is_file()
        return {} if divided else {"documents.path": study.documents.path}
    assert study.data is not None  # noqa: S101 (checked by Study)
    keys = ("members", "nonmembers", "distil_on")
    return {f"data.{key}": path for key in keys if (path := getattr(study.data, key)) is not None}


def _models(study: Study) -> dict[str, str]:
    """Key of the recipe → hub id or folder."""
    student = study.student
    named = {
        "teacher.model": study.teacher.model,
        "student.checkpoint": student.checkpoint if student else None,
        "student.config": student.config if student and isinstance(student.config, str) else None,
        "evaluate.reference": study.evaluate.reference,
        **{f"models.{name}": model for name, model in study.models.items()},
    }
    return {key: name for key, name in named.items() if name is not None}


def _sha256(path: str) -> str:
    with Path(path).open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
