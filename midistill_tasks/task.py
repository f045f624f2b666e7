"""The door by which YAML files name our task classes: ``class: !function midistill_tasks.task.MIATask``."""

from __future__ import annotations

from midistill_tasks.harness.group import MIASplit
from midistill_tasks.harness.heldout import HeldoutTask
from midistill_tasks.harness.task import MIATask

__all__ = ["HeldoutTask", "MIASplit", "MIATask"]
