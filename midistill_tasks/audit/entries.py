"""Door: see `midistill_tasks.results.roles`."""

from __future__ import annotations

from midistill_tasks.results.roles import read_group

__all__ = ["read_group"]
