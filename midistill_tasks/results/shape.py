"""What of a results file is read must be of these kinds; all else in it is the harness's and may be anything."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from midistill_tasks.errors import InputError
from midistill_tasks.results.schema import SCHEMA_VERSION, TaskMetadata


class _Config(BaseModel):
    """Of a task."""

    metadata: dict[str, Any] | None = None


class _Content(BaseModel):
    """A results file."""

    results: dict[str, dict[str, Any]]
    configs: dict[str, _Config] = {}
    versions: dict[str, Any] = {}
    higher_is_better: dict[str, dict[str, Any] | None] = {}
    group_subtasks: dict[str, list[str]] = {}
    config: dict[str, Any] = {}


def load_results(path: Path) -> dict[str, Any]:
    """The file's JSON, as far as it is read of the kinds above.

    Raises:
        InputError: it is not.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        raise InputError(f"{path} is no readable JSON: give the results_*.json that lm_eval wrote") from None
    if not isinstance(content, dict) or not isinstance(content.get("results"), dict):
        raise InputError(f"{path} has no 'results': give the results_*.json that lm_eval wrote")
    _check(_Content, content, str(path))
    return content


def check_about(about: Mapping[str, Any], place: str) -> None:
    """What a task says of itself.

    Raises:
        InputError: a key is of another kind, or the file is of a later version.
    """
    _check(TaskMetadata, about, place)
    if (version := about.get("schema_version", 1)) > SCHEMA_VERSION:
        raise InputError(
            f"{place} has schema_version {version}, this midistill reads up to {SCHEMA_VERSION}: update it"
        )


def _check(kind: type[BaseModel], value: Mapping[str, Any], place: str) -> None:
    try:
        kind.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise InputError(
            f"{place}: '{key}' is not as midistill reads it ({first['msg']}): give the results_*.json that lm_eval"
            " wrote"
        ) from None
