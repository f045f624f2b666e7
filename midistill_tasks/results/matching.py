"""Two models can be compared where the same attack ran on the same texts in the same way."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from midistill_tasks.attacks import ATTACKS
from midistill_tasks.errors import InputError
from midistill_tasks.metrics.scored import BoolArray
from midistill_tasks.results.reader import Run, Task

MISSING = 0.5
"""Share of the texts without a score in one of the runs beyond which an attack is left out of a comparison."""


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

    A text that one of the runs has no score for under one of the attacks has none in any: all figures are of the same
    texts. An attack that lacks a score for more than half of the texts is left out, lest it leave none.

    Raises:
        InputError: as `common_attacks` and `check_comparable`; also where every attack lacks that many.
    """
    tasks = [{attack: run.on(split)[attack] for attack in common_attacks(runs, split)} for run in runs]
    for run, own in zip(runs[1:], tasks[1:], strict=True):
        for attack, task in own.items():
            check_comparable(runs[0], run, tasks[0][attack], task)
    missing = {name: np.any([np.isnan(own[name].scores) for own in tasks], axis=0) for name in tasks[0]}
    kept = [name for name, lacks in missing.items() if lacks.mean() <= MISSING]
    if not kept:
        models = listed([run.model for run in runs])
        raise InputError(
            f"{split}: more than half of the texts lack a score in one of the models ({models}) under every attack; "
            "evaluate again what gave no scores"
        )
    together = np.any([missing[name] for name in kept], axis=0)
    return [{name: _without(own[name], together) for name in kept} for own in tasks]


def _without(task: Task, missing: BoolArray) -> Task:
    """The task without a score for the `missing` texts, [n]."""
    if not missing[~np.isnan(task.scores)].any():
        return task
    items = (
        item._replace(score=math.nan) if none else item for item, none in zip(task.items, missing.tolist(), strict=True)
    )
    return replace(task, items=tuple(items))


def _shaping(attack: str) -> list[str]:
    """The options that an attack's scores depend on; which texts there are shows in their ids."""
    known = ATTACKS.get(attack)
    if known is None:
        return []
    return list(known.shaped_by)


def notes(runs: Sequence[Run], tasks: Mapping[str, Task], split: str) -> list[str]:
    """What a comparison leaves out.

    Args:
        runs: that are compared.
        tasks: of the first run, as `comparable_tasks` gives them.
        split: that all were attacked on.
    """
    found = []
    first = next(iter(tasks.values()))
    unscored = int(np.isnan(first.scores).sum())
    if unscored:
        found.append(
            f"{unscored} of the {len(first.items)} texts lack a score in one of the models, so verdict, paired tests "
            "and matrices leave them out"
        )
    extra: dict[str, list[str]] = {}
    for run in runs:
        for attack in run.on(split):
            if attack not in tasks:
                extra.setdefault(attack, []).append(run.model)
    for attack, models in extra.items():
        everywhere = len(models) == len(runs)
        why = "more than half of the texts lack a score" if everywhere else f"it ran on {listed(models)} only"
        found.append(f"{attack} is left out: {why}")
    return found


def version_notes(runs: Sequence[Run]) -> list[str]:
    """Packages that were not the same in all runs."""
    found = []
    for package in runs[0].versions:
        versions = [(run.versions.get(package, "?"), run.model) for run in runs]
        if len(dict(versions)) > 1:
            found.append(f"The versions of {package} differ ({_by_value(versions)})")
    return found


def option_notes(runs: Sequence[Run], split: str) -> list[str]:
    """Attacks that were not made in the same way on all runs."""
    found = []
    for attack in dict.fromkeys(name for run in runs for name in run.on(split)):
        present = [(run.on(split)[attack], run.model) for run in runs if attack in run.on(split)]
        for option in ("version", *_shaping(attack)):
            values = [(_setting(task, option), model) for task, model in present]
            if len(dict(values)) > 1:
                found.append(
                    f"The figures of {attack} on {split} do not compare: '{option}' differs ({_by_value(values)})"
                )
    return found


def skip_notes(runs: Sequence[Run]) -> list[str]:
    """Attacks without figures on some of the runs, and why."""
    skipped: dict[tuple[str, str], list[str]] = {}
    for run in runs:
        for name, why in run.skipped.items():
            skipped.setdefault((name, why), []).append(run.model)
    return [f"No figures for {name} on {listed(models)}: {why}" for (name, why), models in skipped.items()]


def _setting(task: Task, option: str) -> str:
    return str(task.version if option == "version" else task.metadata["options"].get(option))


def _by_value(values: Sequence[tuple[str, str]]) -> str:
    """``1 for a and b, 2 for c``, from pairs of value and model."""
    return ", ".join(
        f"{value} for {listed([model for own, model in values if own == value])}"
        for value in dict.fromkeys(value for value, _ in values)
    )


def listed(names: Sequence[str]) -> str:
    """``a, b and c``; of more than three ``a, b and 7 more``."""
    if len(names) > 3:
        return f"{', '.join(names[:2])} and {len(names) - 2} more"
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
