"""The default attacks on one split from one YAML file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lm_eval.api.group import Group

from midistill_tasks.harness.expand import groups
from midistill_tasks.harness.keys import check_kinds
from midistill_tasks.harness.task import MIATask


class MIASplit(MIATask):
    """``class: !function midistill_tasks.task.MIASplit`` makes a file's ``task`` (``mia_<split>``) the group of
    ``mia_<attack>_<split>`` for the attacks of ``mia_<split>``.

    `TaskFactory` calls a class with the file's content and takes what comes back, so this one gives a `Group`.
    """

    def __new__(cls, config: Mapping[str, Any]) -> Group:
        check_kinds(config)
        name = config["task"]
        group = Group(name=name, metadata=config.get("metadata"))
        for attack in groups()["mia"]:
            task = f"mia_{attack}_{name.removeprefix('mia_')}"
            group.add(MIATask(config={**config, "task": task, "attack": attack, "optional": True}))
        return group

    def __init__(self, config: Mapping[str, Any]) -> None:
        """Never reached; its signature tells `TaskFactory` to hand over the configuration."""
