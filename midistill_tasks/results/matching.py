"""Two models can be compared where the same attack ran on the same texts in the same way."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from midistill_tasks.attacks import ATTACKS
from midistill_tasks.errors import InputError
from midistill_tasks.metrics.scored import BoolArray
from midistill_tasks.results.run import AttackResult, Run

MISSING = 0.5
"""Share of the texts without a score in one of the runs beyond which an attack is left out of a comparison."""


def mostly_scored(result: AttackResult) -> bool:
    """Whether the attack has a score for half of the texts or more."""
    return float(np.isnan(result.scores).mean()) <= MISSING


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


class Matched(NamedTuple):
    """How far the texts of two results are the same, by id.

    Attributes:
        shared: texts that both have.
        disputed: shared texts with another label.
        differing: texts that one lacks, or that have another label.
    """

    shared: int
    disputed: int
    differing: int


def match_texts(first: AttackResult, second: AttackResult) -> Matched:
    """Matches the texts of two results."""
    shared = first.by_id.keys() & second.by_id.keys()
    disputed = sum(first.by_id[name].label != second.by_id[name].label for name in shared)
    return Matched(len(shared), disputed, len(first.items) + len(second.items) - 2 * len(shared) + disputed)


def check_comparable(runs: tuple[Run, Run], results: tuple[AttackResult, AttackResult]) -> None:
    """That two runs' results of one attack are of the same texts, by id, and were made in the same way.

    Raises:
        InputError: with the counts where the texts or labels differ; naming the option or version that differs.
    """
    models = [run.model for run in runs]
    task = results[0].name
    matched = match_texts(*results)
    if matched.differing:
        raise InputError(
            f"{task}: {models[0]} was attacked on {len(results[0].items)} texts and {models[1]} on "
            f"{len(results[1].items)}; {matched.shared} are the same, {matched.disputed} of them with another label; "
            "evaluate both with the same --limit, --metadata and data"
        )
    versions = [result.version for result in results]
    if versions[0] != versions[1]:
        raise InputError(
            f"{task} is of version {versions[0]} for {models[0]} and {versions[1]} for {models[1]}; "
            "evaluate both with one version of midistill"
        )
    kinds = [result.metadata.get("likelihood") or "log-likelihood" for result in results]
    if kinds[0] != kinds[1]:
        raise InputError(
            f"{task}: the scores are of a {kinds[0]} for {models[0]} and of a {kinds[1]} for {models[1]}, which are "
            "not to be compared; evaluate both by the same --model and its arguments"
        )
    for option in _shaping(results[0].attack):
        values = [result.metadata["options"].get(option) for result in results]
        if values[0] != values[1]:
            raise InputError(
                f"{task}: the option '{option}' was {values[0]!r} for {models[0]} and {values[1]!r} for {models[1]}; "
                "evaluate both with the same --metadata"
            )


def comparable_results(runs: Sequence[Run], split: str) -> list[dict[str, AttackResult]]:
    """For each run attack → its result on the split, of the attacks that all ran; the same texts in the same order.

    A text that one of the runs has no score for under one of the attacks has none in any: all figures are of the same
    texts. An attack that lacks a score for more than half of the texts is left out, lest it leave none.

    Raises:
        InputError: as `common_attacks` and `check_comparable`; also where every attack lacks that many.
    """
    by_run = [{attack: run.on(split)[attack] for attack in common_attacks(runs, split)} for run in runs]
    for run, results in zip(runs[1:], by_run[1:], strict=True):
        for attack, result in results.items():
            check_comparable((runs[0], run), (by_run[0][attack], result))
    missing = {name: np.any([np.isnan(results[name].scores) for results in by_run], axis=0) for name in by_run[0]}
    kept = [name for name, lacks in missing.items() if lacks.mean() <= MISSING]
    if not kept:
        models = listed([run.model for run in runs])
        raise InputError(
            f"{split}: more than half of the texts lack a score in one of the models ({models}) under every attack; "
            "evaluate again what gave no scores"
        )
    together = np.any([missing[name] for name in kept], axis=0)
    return [{name: _without(results[name], together) for name in kept} for results in by_run]


def _without(result: AttackResult, missing: BoolArray) -> AttackResult:
    """The result without a score for the `missing` texts, [n]."""
    if not missing[~np.isnan(result.scores)].any():
        return result
    items = (
        item._replace(score=math.nan) if lacks else item
        for item, lacks in zip(result.items, missing.tolist(), strict=True)
    )
    return replace(result, items=tuple(items))


def _shaping(attack: str) -> list[str]:
    """The options that an attack's scores depend on; which texts there are shows in their ids."""
    return list(ATTACKS[attack].shaped_by) if attack in ATTACKS else []


def notes(runs: Sequence[Run], results: Mapping[str, AttackResult], split: str) -> list[str]:
    """What a comparison leaves out.

    Args:
        runs: that are compared.
        results: of the first run, as `comparable_results` gives them.
        split: that all were attacked on.
    """
    said = []
    first = next(iter(results.values()))
    unscored = int(np.isnan(first.scores).sum())
    if unscored:
        said.append(
            f"{unscored} of the {len(first.items)} texts lack a score in one of the models, so verdict, paired tests "
            "and matrices leave them out"
        )
    return [*said, *left_out_notes(runs, results, split)]


def left_out_notes(runs: Sequence[Run], kept: Collection[str], split: str) -> list[str]:
    """Attacks that ran on some of the runs, and are not among those that are `kept`."""
    said = []
    extra: dict[str, list[str]] = {}
    for run in runs:
        for attack in run.on(split):
            if attack not in kept:
                extra.setdefault(attack, []).append(run.model)
    for attack, models in extra.items():
        everywhere = len(models) == len(runs)
        why = "more than half of the texts lack a score" if everywhere else f"it ran on {listed(models)} only"
        said.append(f"{attack} is left out: {why}")
    return said


def version_notes(runs: Sequence[Run]) -> list[str]:
    """Packages that were not the same in all runs."""
    said = []
    for package in runs[0].versions:
        versions = [(run.versions.get(package, "?"), run.model) for run in runs]
        if len(dict(versions)) > 1:
            said.append(f"The versions of {package} differ ({_by_value(versions)})")
    return said


def option_notes(runs: Sequence[Run], split: str) -> list[str]:
    """Attacks that were not made in the same way on all runs."""
    said = []
    for attack in dict.fromkeys(name for run in runs for name in run.on(split)):
        present = [(run.on(split)[attack], run.model) for run in runs if attack in run.on(split)]
        for option in ("version", *_shaping(attack)):
            values = [(_setting(result, option), model) for result, model in present]
            if len(dict(values)) > 1:
                said.append(
                    f"The figures of {attack} on {split} do not compare: '{option}' differs ({_by_value(values)})"
                )
    return said


def skip_notes(runs: Sequence[Run]) -> list[str]:
    """Attacks without figures on some of the runs, and why."""
    skipped: dict[tuple[str, str], list[str]] = {}
    for run in runs:
        for name, why in run.skipped.items():
            skipped.setdefault((name, why), []).append(run.model)
    return [f"No figures for {name} on {listed(models)}: {why}" for (name, why), models in skipped.items()]


def _setting(result: AttackResult, option: str) -> str:
    return str(result.version if option == "version" else result.metadata["options"].get(option))


def _by_value(values: Sequence[tuple[str, str]]) -> str:
    """``1 for a and b, 2 for c``, from pairs of value and model."""
    return ", ".join(
        f"{value} for {listed([model for shown, model in values if shown == value])}"
        for value in dict.fromkeys(value for value, _ in values)
    )


def listed(names: Sequence[str]) -> str:
    """``a, b and c``; of more than three ``a, b and 7 more``."""
    if len(names) > 3:
        return f"{', '.join(names[:2])} and {len(names) - 2} more"
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
