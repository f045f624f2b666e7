"""Writes the task YAMLs from the registries of attacks and splits: ``python task_yamls/_generate.py``.

The written files are committed; a test holds them against what this makes. ``--check`` only compares.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import yaml

from midistill_tasks.attacks import ATTACKS
from midistill_tasks.harness.task import DEFAULT_METRICS
from midistill_tasks.metrics import METRICS
from midistill_tasks.splits import SPLITS, Split

HERE = Path(__file__).parent
VERSION = 1.0
NOTE = "# Written by task_yamls/_generate.py\n"
FUNCTION = "class: !function midistill_tasks.task.MIATask\n"


def template(split: Split) -> str:
    """What all tasks of a split share; no ``.yaml`` ending, so that the harness does not index it."""
    metrics = [
        {
            "metric": name,
            "aggregation": f"mia_{name}",
            "higher_is_better": METRICS[name].higher_is_better if name in METRICS else None,
        }
        for name in DEFAULT_METRICS
    ]
    content: dict[str, Any] = {
        "split": split.name,
        **split.config,
        "output_type": "loglikelihood_rolling",
        "num_fewshot": 0,
        "metric_list": metrics,
        "metadata": {"version": VERSION},
    }
    return NOTE + FUNCTION + dump(content)


def task(split: Split, attack: str) -> str:
    """One attack on one split. A user's own files are nowhere to be found, so they would stop all others of the tag."""
    tag = {} if split.name == "files" else {"tag": f"mia_{attack}"}
    content = {"task": f"mia_{attack}_{split.name}", **tag, "attack": attack}
    return NOTE + dump({"include": f"_{split.name}_template", **content})


def group(split: Split) -> str:
    """All attacks on a split. Without what it needs an attack's row is left out here; asked for by name, it stops."""
    members = [{"task": f"mia_{attack}_{split.name}", "optional": True} for attack in ATTACKS]
    return NOTE + dump({"group": f"mia_{split.name}", "task": members, "metadata": {"version": VERSION}})


def paper() -> str:
    """The paper's four data sets."""
    members = [f"mia_{split.name}" for split in SPLITS.values() if split.paper]
    return NOTE + dump({"group": "mia_paper", "task": members, "metadata": {"version": VERSION}})


def heldout(split: Split) -> str:
    """Perplexity on the split's non-members, a plain task of the harness. Not named mia_…, for it is no attack."""
    content: dict[str, Any] = {
        "task": f"heldout_{split.name}",
        "dataset_kwargs": {"heldout": split.name},
        "test_split": "test",
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "text",
        "num_fewshot": 0,
        "metric_list": [
            {"metric": name, "aggregation": aggregation, "higher_is_better": False}
            for name, aggregation in (
                ("word_perplexity", "weighted_perplexity"),
                ("byte_perplexity", "weighted_perplexity"),
                ("bits_per_byte", "bits_per_byte"),
            )
        ],
        "metadata": {"version": VERSION},
    }
    return NOTE + "custom_dataset: !function midistill_tasks.heldout.nonmembers\n" + dump(content)


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
        made[f"{split.name}/_{split.name}_template"] = template(split)
        made[f"{split.name}/mia_{split.name}.yaml"] = group(split)
        made[f"{split.name}/heldout_{split.name}.yaml"] = heldout(split)
        for attack in ATTACKS:
            made[f"{split.name}/mia_{attack}_{split.name}.yaml"] = task(split, attack)
    return made


def differences(made: dict[str, str], folder: Path = HERE) -> tuple[list[str], list[str]]:
    """Files below `folder` that are not as `made` has them, and files that are no longer made."""
    changed = [
        name for name, text in made.items() if not (folder / name).is_file() or (folder / name).read_text() != text
    ]
    there = {path.relative_to(folder).as_posix() for path in folder.glob("*/*") if path.parent.name != "__pycache__"}
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
