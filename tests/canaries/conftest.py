"""Folders of canaries, made once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def rows() -> Callable[[Path], list[dict[str, Any]]]:
    """``rows(file)``: a file of JSON lines."""
    return lambda path: [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 made-up people, a half of them once and the others three times."""
    from midistill_tasks.canaries.make import Wanted, make

    folder = tmp_path_factory.mktemp("planted") / "canaries"
    make(Wanted(n=120, repeats=(1, 3), seed=7), folder)
    return folder
