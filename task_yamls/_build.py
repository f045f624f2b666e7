"""hatchling's hook: puts the tasks of all attacks into the wheel, for harnesses that look for files."""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ExpandTasks(BuildHookInterface):  # type: ignore[type-arg]
    """Adds ``midistill_tasks/task_yamls/`` to a wheel; an editable installation writes them when they are asked for."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        sys.path.insert(0, self.root)
        from midistill_tasks.harness import expand

        folder = Path(mkdtemp(prefix="midistill-tasks-"))
        for name, text in expand.files(Path(self.root) / "task_yamls").items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            build_data["force_include"][str(path)] = f"midistill_tasks/task_yamls/{name}"
