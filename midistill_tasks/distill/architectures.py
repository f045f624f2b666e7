"""Door for pickles and programs of earlier versions: see `midistill_tasks.models.architectures`."""

from __future__ import annotations

from typing import Any

from midistill_tasks.models import architectures
from midistill_tasks.models.architectures import register

__all__ = ["register"]


def __getattr__(name: str) -> Any:
    return getattr(architectures, name)
