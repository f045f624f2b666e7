"""What `plugin/` does to the harness once one of its modules is imported."""

from __future__ import annotations

import functools
import inspect
import logging
from pathlib import Path
from types import ModuleType
from typing import Any

logger = logging.getLogger(__name__)


def yaml_folder() -> Path:
    """The folder of the task YAMLs: the checkout's with ``pip install -e``, where the installed copy would go stale."""
    package = Path(__file__).parents[1]
    checkout = package.parent / "task_yamls"
    return checkout if (checkout / "_generate.py").is_file() else package / "task_yamls"


def add_tasks(manager: ModuleType) -> None:
    """Lets every `TaskManager` with the harness's own tasks know ours: after those, before ``--include_path``.

    Nothing is replaced, so that a user's task of the same name wins, and a harness that already found our tasks by
    itself (the proposed entry point ``lm_eval.tasks``) is left as it is. Where a tag of ours is also a user's, it holds
    the tasks of both.
    """
    original = manager.TaskManager.__init__
    parameters = inspect.signature(original)

    @functools.wraps(original)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        given = parameters.bind(self, *args, **kwargs).arguments
        if not given.get("include_defaults", True):
            return
        try:
            _extend(self, manager)
        except Exception as error:  # another release of the harness: its own tasks must still work
            logger.warning(
                "midistill: this lm_eval does not take our tasks in (%r); use --include_path %s", error, yaml_folder()
            )

    manager.TaskManager.__init__ = init


def _extend(task_manager: Any, manager: ModuleType) -> None:
    index = task_manager._index
    for name, entry in manager.TaskIndex().build([yaml_folder()]).items():
        if name not in index:
            index[name] = entry
        elif index[name].kind is entry.kind is manager.Kind.TAG:
            index[name].tags |= entry.tags
    names: dict[Any, list[str]] = {kind: [] for kind in manager.Kind}
    for name, entry in index.items():
        names[entry.kind].append(name)
    task_manager._all_tasks = sorted(index)
    task_manager._all_subtasks = sorted(names[manager.Kind.TASK] + names[manager.Kind.PY_TASK])
    task_manager._all_groups = sorted(names[manager.Kind.GROUP])
    task_manager._all_tags = sorted(names[manager.Kind.TAG])


def add_metrics(metrics: ModuleType) -> None:
    """Registers our metrics and aggregations, so that a plain YAML task finds them by name."""
    from midistill_tasks.harness.metrics import register

    register()


def add_models(huggingface: ModuleType) -> None:
    """Registers the architecture of our students, so that ``--model hf`` loads them."""
    from midistill_tasks.models import architectures

    architectures.register()
