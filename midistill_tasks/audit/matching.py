"""Two models can be compared where the same attack ran on the same texts in the same way."""

from __future__ import annotations

from collections.abc import Sequence

from midistill_tasks.attacks import ATTACKS
from midistill_tasks.audit.results import Run, Task
from midistill_tasks.errors import InputError


def common_attacks(runs: Sequence[Run], split: str) -> list[str]:
    """The attacks that every run has on the split, in the order of the first.

    Raises:
        InputError: if there is none.
    """
    attacks = [attack for attack in runs[0].on(split) if all(attack in run.on(split) for run in runs)]
    if not attacks:
        have = "; ".join(f"{run.model}: {', '.join(run.on(split)) or 'none'}" for run in runs)
        raise InputError(f"no attack on {split} ran on all of these models ({have}): run the same mia_… tasks on each")
    return attacks


def common_splits(runs: Sequence[Run]) -> list[str]:
    """The splits that every run has, in the order of the first.

    Raises:
        InputError: if there is none.
    """
    splits = [split for split in runs[0].splits if all(split in run.splits for run in runs)]
    if not splits:
        have = "; ".join(f"{run.model}: {', '.join(run.splits)}" for run in runs)
        raise InputError(f"these models were attacked on different splits ({have}): run the same mia_… tasks on each")
    return splits


def check_comparable(one: Run, other: Run, task: Task, match: Task) -> None:
    """That two runs' tasks of one attack saw the same texts, by id, and were made in the same way.

    Raises:
        InputError: with the counts where the texts or labels differ; naming the option or version that differs.
    """
    labels = [{item.id: item.label for item in side.items} for side in (task, match)]
    if labels[0] != labels[1]:
        shared = labels[0].keys() & labels[1].keys()
        disputed = sum(labels[0][name] != labels[1][name] for name in shared)
        raise InputError(
            f"{task.name}: {one.model} was attacked on {len(labels[0])} texts and {other.model} on {len(labels[1])}; "
            f"{len(shared)} are the same, {disputed} of them with another label; "
            "evaluate both with the same --limit, --metadata and data"
        )
    if task.version != match.version:
        raise InputError(
            f"{task.name} is of version {task.version} for {one.model} and {match.version} for {other.model}; "
            "evaluate both with one version of midistill"
        )
    for option in _shaping(task.attack):
        values = [side.metadata["options"].get(option) for side in (task, match)]
        if values[0] != values[1]:
            raise InputError(
                f"{task.name}: the option '{option}' was {values[0]!r} for {one.model} and {values[1]!r} for "
                f"{other.model}; evaluate both with the same --metadata"
            )


def comparable_tasks(runs: Sequence[Run], split: str) -> list[dict[str, Task]]:
    """For each run attack → its task on the split, of the attacks that all ran; the same texts in the same order.

    Raises:
        InputError: as `common_attacks` and `check_comparable`.
    """
    tasks = [{attack: run.on(split)[attack] for attack in common_attacks(runs, split)} for run in runs]
    for run, own in zip(runs[1:], tasks[1:], strict=True):
        for attack, task in own.items():
            check_comparable(runs[0], run, tasks[0][attack], task)
    return tasks


def _shaping(attack: str) -> list[str]:
    """The options that an attack's scores depend on; which texts there are shows in their ids."""
    known = ATTACKS.get(attack)
    if known is None:
        return []
    shots = ["shots"] if any(view.after_shots for view in known.views) else []
    reference = ["reference"] if any(view.model == "reference" for view in known.views) else []
    return [*known.options, *shots, *reference, "first_token"]


def notes(runs: Sequence[Run], split: str) -> list[str]:
    """What a reader should know of runs that are compared all the same: versions that differ, attacks left out."""
    found = []
    for package in runs[0].versions:
        versions = {run.model: run.versions.get(package, "?") for run in runs}
        if len(set(versions.values())) > 1:
            listed = ", ".join(f"{version} for {model}" for model, version in versions.items())
            found.append(f"{package} was not the same in all runs ({listed})")
    used = common_attacks(runs, split)
    for run in runs:
        extra = [attack for attack in run.on(split) if attack not in used]
        if extra:
            found.append(f"{', '.join(extra)} ran on {run.model} but not on all, and is left out")
        found += [
            f"{name} gave no score on {run.model}: {reason}"
            for name, reason in run.skipped.items()
            if name.endswith(f"_{split}")
        ]
    return list(dict.fromkeys(found))
