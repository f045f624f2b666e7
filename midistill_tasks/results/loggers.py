"""What the harness's loggers (W&B, trackio) are told of a run: what its files hold, and nothing that these hide."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from midistill_tasks.results.strict import without_errors_of_errors
from midistill_tasks.secrets import redact


def loggable(results: Mapping[str, Any]) -> dict[str, Any]:
    """Results as the loggers can take them: tokens hidden, no errors of errors, no groups without figures.

    The harness's W&B logger takes a group that aggregates nothing, as ours are, for a task: its version is a string in
    a column of numbers, and W&B refuses the whole table, with every sample that was to follow.
    """
    made: dict[str, Any] = redact(dict(results))
    empty = set(made.get("group_subtasks", {})) - set(made.get("groups", {}))
    made["results"] = {
        name: without_errors_of_errors(row) for name, row in made.get("results", {}).items() if name not in empty
    }
    return made


def log_what_is_written(logger: Any) -> None:
    """Has the harness's `WandbLogger` or `TrackioLogger` log so; may be called again."""
    original = logger.post_init
    if hasattr(original, "__wrapped__"):
        return

    @functools.wraps(original)
    def post_init(self: Any, results: dict[str, Any]) -> None:
        original(self, results=loggable(results))

    logger.post_init = post_init
