"""The door by which YAML files name our task classes: ``class: !function midistill_tasks.task.MIATask``."""

from __future__ import annotations

from midistill_tasks.harness.task import MIASplit, MIATask

__all__ = ["MIASplit", "MIATask"]
