"""How the harness comes to know our tasks."""

from __future__ import annotations

import functools
import inspect
import logging
from pathlib import Path
from types import ModuleType
from typing import Any

from midistill_tasks.errors import warn_once
from midistill_tasks.harness.hooks.ending import say_input_errors
from midistill_tasks.harness.hooks.requests import look_at_caches
from midistill_tasks.scoring.models import add_to_harness
from midistill_tasks.secrets import hide_in_logs

logger = logging.getLogger(__name__)

PACKAGE = Path(__file__).parents[2]


def split_yamls() -> Path:
    """The folder of one YAML a split: the checkout's with ``pip install -e``, where a copy would go stale."""
    checkout = PACKAGE.parent / "task_yamls"
    return checkout if (checkout / "_generate.py").is_file() else PACKAGE / "split_yamls"


def yaml_folder() -> Path:
    """A folder of all tasks for ``--include_path``: the wheel's, or one written where that has not all of them.

    From a checkout, and where other packages bring attacks, it is written below the user's cache.
    """
    from midistill_tasks.harness import expand

    installed, made = PACKAGE / "task_yamls", expand.files(split_yamls())
    if all((installed / name).is_file() for name in made):
        return installed
    return expand.written(made)


def add_tasks(manager: ModuleType) -> None:
    """Lets every `TaskManager` with the harness's own tasks know ours: in memory, without a file each.

    Nothing is replaced, so that a user's task of the same name wins, and a harness that already found our tasks by
    itself (the proposed entry point ``lm_eval.tasks``) is left as it is. Where a tag of ours is also a user's, it holds
    the tasks of both.
    """
    say_input_errors()
    hide_in_logs()
    look_at_caches()
    add_to_harness()
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
                'midistill: this lm_eval does not take our tasks in (%r); use --include_path "$(midistill tasks path)"',
                error,
            )

    manager.TaskManager.__init__ = init
    _leave_out_of_patterns(manager.TaskManager)
    _build_inline()


def _build_inline() -> None:
    """A MIA task that is written out inside a ``group:`` is built by its class, as one in a file of its own; the
    harness builds its own class there, and adds the group's name to the task's."""
    from lm_eval.tasks import _factory

    original = getattr(_factory, "ConfigurableTask", None)
    if not isinstance(original, type):
        return

    def build(config: dict[str, Any]) -> Any:
        own = config.get("class")
        if not str(getattr(own, "__module__", "")).startswith("midistill_tasks"):
            return original(config=config)
        rest = {key: value for key, value in config.items() if key != "group"}
        return own(config=rest | {"task": str(config["task"]).rpartition("::")[2]})  # type: ignore[misc]

    _factory.ConfigurableTask = build


def _leave_out_of_patterns(kind: Any) -> None:
    """What a pattern such as ``mia_*_bios`` catches and this run cannot serve is left out; by its name it stops."""
    original = getattr(kind, "match_tasks", None)
    if original is None:
        return

    @functools.wraps(original)
    def match_tasks(self: Any, task_list: list[str]) -> list[str]:
        from midistill_tasks.harness.keys import lacking

        caught: list[str] = original(self, task_list)
        # Groups of the same tasks: the harness refuses a task that is asked for twice.
        wider = ("mia_all_", "mia_strong_")
        asked = [pattern for pattern in task_list if pattern.startswith(wider)]
        caught = [name for name in caught if not name.startswith(wider) or name in task_list or asked]
        options = getattr(self, "metadata", None)
        if options is None:  # a manager that lists and knows no run
            return caught
        lacks = {name: lacking(name, options) for name in set(caught) - set(task_list)}
        for name, reason in sorted(lacks.items()):
            if reason:
                warn_once(f"{name} is left out of {', '.join(task_list)}: it {reason}")
        return [name for name in caught if not lacks.get(name)]

    kind.match_tasks = match_tasks


def _extend(task_manager: Any, manager: ModuleType) -> None:
    from midistill_tasks.harness import expand

    index = task_manager._index
    ours: dict[str, Any] = {}
    for config in expand.entries(split_yamls()):
        manager.TaskIndex.process_cfg(config, None, ours)
    for name, entry in ours.items():
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
