"""The door by which YAML files name the held-out texts of a split."""

from __future__ import annotations

from midistill_tasks.harness.heldout import nonmembers

__all__ = ["nonmembers"]
