"""Writes one YAML a split, and the groups, from the registry of splits: ``python task_yamls/_generate.py``.

The written files are committed; a test holds them against what this makes. ``--check`` only compares. The tasks of the
attacks are expanded from them by `midistill_tasks.harness.expand`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import yaml

from midistill_tasks.harness.keys import DEFAULT_METRICS
from midistill_tasks.metrics import METRICS
from midistill_tasks.splits import SPLITS, Split

HERE = Path(__file__).parent
VERSION = 1.0
NOTE = "# Written by task_yamls/_generate.py\n"
FUNCTION = "class: !function midistill_tasks.task.MIASplit\n"


def split_file(split: Split) -> str:
    """What all tasks of a split share; the harness itself makes of it the group of all attacks."""
    metrics = [
        {
            "metric": name,
            "aggregation": f"mia_{name}",
            "higher_is_better": METRICS[name].higher_is_better if name in METRICS else None,
        }
        for name in (*DEFAULT_METRICS, *split.metrics)
    ]
    content: dict[str, Any] = {
        "task": f"mia_{split.name}",
        "split": split.name,
        **split.config,
        "output_type": "loglikelihood_rolling",
        "num_fewshot": 0,
        "metric_list": metrics,
        "metadata": {"version": VERSION},
    }
    return NOTE + FUNCTION + dump(content)


def paper() -> str:
    """The paper's four data sets."""
    members = [f"mia_{split.name}" for split in SPLITS.values() if split.paper]
    return NOTE + dump({"group": "mia_paper", "task": members, "metadata": {"version": VERSION}})


def combined(name: str, *members: str) -> str:
    """A group of privacy and utility together."""
    return NOTE + dump({"group": name, "task": list(members), "metadata": {"version": VERSION}})


def dump(content: dict[str, Any]) -> str:
    """Plain YAML in the given order."""
    return yaml.safe_dump(content, sort_keys=False, width=1000)


def files() -> dict[str, str]:
    """Path below this folder → content."""
    made = {
        "mia_paper.yaml": paper(),
        "mia_privacy_utility.yaml": combined("mia_privacy_utility", "mia_bios", "heldout_bios"),
        "leaderboard_privacy.yaml": combined("leaderboard_privacy", "leaderboard", "mia_paper"),
    }
    for split in SPLITS.values():
        made[f"mia_{split.name}.yaml"] = split_file(split)
    return made


def differences(made: dict[str, str], folder: Path = HERE) -> tuple[list[str], list[str]]:
    """Files below `folder` that are not as `made` has them, and files that are no longer made."""
    changed = [
        name for name, text in made.items() if not (folder / name).is_file() or (folder / name).read_text() != text
    ]
    there = {path.relative_to(folder).as_posix() for path in folder.glob("*.yaml")}
    return changed, sorted(there - set(made))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where a committed file differs")
    check = parser.parse_args().check
    made = files()
    changed, stale = differences(made)
    for name in [*changed, *stale]:
        print(f"{'differs' if check else 'removed' if name in stale else 'written'}: {name}")
    if check:
        return int(bool(changed or stale))
    for name in stale:
        (HERE / name).unlink()
    for name in changed:
        (HERE / name).parent.mkdir(exist_ok=True)
        (HERE / name).write_text(made[name])
    return 0


if __name__ == "__main__":
    sys.exit(main())
