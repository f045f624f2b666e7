"""What the harness wrote of a model as a `Run`: results_<date>.json, and its MIA tasks' samples_<task>_<date>.jsonl."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from midistill_tasks.attacks import ATTACKS
from midistill_tasks.errors import InputError
from midistill_tasks.metrics.estimate import Estimate
from midistill_tasks.results.matching import match_texts
from midistill_tasks.results.run import AttackResult, Run, Utility, as_number
from midistill_tasks.results.samples import FILTERS, read_samples
from midistill_tasks.results.shape import check_about, load_results
from midistill_tasks.results.strongest import part, picks, published

_KEYS = ("attack", "split", "valid_for", "independent_coins", "options", "counts", "data_sha256", "versions")
_NAME = re.compile(r"samples_(?P<task>mia_.+)_(?P<date>\d{4}-\d\d-\d\dT.+)\.jsonl")


def read_run(place: str | Path) -> Run:
    """The newest run in a results file, a model's folder, or an --output_path with one model in it.

    Raises:
        InputError: see `read_runs`; also where the folder holds several models, or no attack can be judged.
    """
    files = _newest(Path(place))
    if len(files) > 1:
        folders = ", ".join(sorted(path.parent.name for path in files))
        raise InputError(f"{place} holds the results of {len(files)} models; name one of its folders: {folders}")
    run = _read(files[0])
    if not run.tasks:
        raise InputError(f"{run.path}: {run.why_unusable}")
    return run


def read_runs(place: str | Path) -> list[Run]:
    """The newest run of every model under a folder, by folder name. Runs without one of our tasks are passed over.

    A run in which no attack can be judged has no `tasks`; its `why_unusable` says why.

    Raises:
        InputError: if there are no results of MIA tasks; if a run has no samples, or was written by another version;
            if a file is broken, or does not belong to the results beside it.
    """
    return [_read(path) for path in _newest(Path(place))]


def read_attacks(places: Iterable[str | Path]) -> dict[str, AttackResult]:
    """The newest samples of every attack on one model in the given files and folders, by attack.

    The results file need not be there, so these have the samples alone: no version and no figures of the table.

    Raises:
        InputError: if there are none, if they are of several splits or models or of different texts, or if a file
            cannot be used or has no texts.
    """
    newest: dict[str, tuple[str, Path]] = {}
    beside: dict[Path, Mapping[str, Any]] = {}
    for path in _sample_files(places):
        match = _NAME.fullmatch(path.name)
        if match is None:
            raise InputError(f"{path} is not named samples_mia_<attack>_<split>_<date>.jsonl: give the harness's file")
        dated = (match["date"], path)
        results_file = _results_of(match["date"], path)
        if results_file not in beside:
            beside[results_file] = load_results(results_file) if results_file.is_file() else {}
        newest[match["task"]] = max(newest.get(match["task"], dated), dated)
    named = {task: _attack_and_split(task, *dated, beside[_results_of(*dated)]) for task, dated in newest.items()}
    splits = sorted({split for _, split in named.values()})
    if len(splits) > 1:
        raise InputError(f"these samples belong to several splits ({', '.join(splits)}): give the files of one")
    models = sorted({str(content.get("model_name") or "") for content in beside.values()} - {""})
    if len(models) > 1:
        raise InputError(
            f"these samples are of {len(models)} models ({', '.join(models)}): give the folder or the files of one"
        )
    results = {}
    for task, (_, path) in sorted(newest.items()):
        attack, split = named[task]
        if picks(attack):
            continue
        read = read_samples(path, need_texts=True)
        results[attack] = AttackResult(task, attack, split, "", path, read.items, read.texts, figures={}, metadata={})
    first, *others = results.values()
    for other in others:
        if differing := match_texts(first, other).differing:
            raise InputError(
                f"{other.path} and {first.path} differ in {differing} texts or labels: run both attacks in one go"
            )
    return results


def _sample_files(places: Iterable[str | Path]) -> list[Path]:
    paths: list[Path] = []
    for place in map(Path, places):
        inside = sorted(place.rglob("samples_mia_*.jsonl")) if place.is_dir() else []
        if place.is_dir() and not inside:
            raise InputError(f"{place} holds no samples_mia_*.jsonl: run lm_eval with --log_samples and --output_path")
        if not place.exists():
            raise InputError(f"{place} does not exist: give samples_mia_*.jsonl files, or the folder that holds them")
        paths += inside or [place]
    return paths


def _attack_and_split(task: str, date: str, samples: Path, results: Mapping[str, Any]) -> tuple[str, str]:
    """As the results beside the samples say, for both may hold an underscore; else by the attacks that are known."""
    described = _mia_tasks(results).get(task, {})
    if {"attack", "split"} <= described.keys():
        return str(described["attack"]), str(described["split"])
    known = [attack for attack in ATTACKS if task.startswith(f"mia_{attack}_")]
    if not known:
        raise InputError(
            f"{samples}: no attack that is known here begins this name, and there is no "
            f"{_results_of(date, samples).name} beside it that says which it is: keep both files of one run together"
        )
    attack = max(known, key=len)
    return attack, task.removeprefix(f"mia_{attack}_")


def _results_of(date: str, samples: Path) -> Path:
    return samples.with_name(f"results_{date}.json")


def _newest(place: Path) -> list[Path]:
    if place.is_file():
        return [place]
    if not place.exists():
        raise InputError(f"{place} does not exist: give a folder that lm_eval wrote with --output_path")
    folders: dict[Path, list[Path]] = {}
    for path in sorted(place.rglob("results_*.json"), reverse=True):
        folders.setdefault(path.parent, []).append(path)
    if not folders:
        raise InputError(f"{place} holds no results_*.json: run lm_eval with --output_path {place} --log_samples")
    newest = [
        next((path for path in files if _mia_tasks(load_results(path))), None) for _, files in sorted(folders.items())
    ]
    paths = [path for path in newest if path is not None]
    if not paths:
        raise InputError(
            f"{place} holds results, but of no MIA task: run lm_eval with tasks such as mia_bios too; shards have no "
            "figures until `midistill attack STATS --output FOLDER` joins their statistics"
        )
    return paths


def _mia_tasks(content: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Task name → its ``metadata.midistill``; shards, which have no figures, are left out."""
    described: dict[str, Mapping[str, Any]] = {}
    for name, config in content.get("configs", {}).items():
        about = (config.get("metadata") or {}).get("midistill")
        if isinstance(about, dict) and "shard" not in about:
            described[name] = about
    return described


def _read(path: Path) -> Run:
    content = load_results(path)
    described = _mia_tasks(content)
    if not described:
        raise InputError(f"{path} holds no MIA task: run lm_eval with tasks such as mia_bios too")
    date = path.stem.removeprefix("results_")
    results, rows = {}, {}
    for name, about in described.items():
        result, parts = _result(name, about, content, path, date)
        if not picks(result.attack):
            results[name] = result
        else:
            rows[result.split] = published(result)
            results |= {one.name: one for one in parts if one.name not in described}
    skipped = {name: reason for name, result in results.items() if (reason := _why_not(result))}
    return Run(
        model=str(content.get("model_name") or path.parent.name),
        path=path,
        date=date,
        tasks={name: result for name, result in results.items() if name not in skipped},
        skipped=skipped,
        utility=_utility(content, set(described)),
        versions=_versions(content, described),
        config=content.get("config", {}),
        published=rows,
    )


def _why_not(result: AttackResult) -> str:
    """Why the attack has no figures; "" where it has."""
    if np.isnan(result.scores).all():
        return "; ".join(result.metadata.get("unscored_reasons", {})) or "the scores are NaN"
    try:
        _ = result.decisions
    except InputError as error:
        return str(error).removeprefix(f"{result.name}: ")
    return ""


def _result(
    name: str, about: Mapping[str, Any], content: Mapping[str, Any], path: Path, date: str
) -> tuple[AttackResult, list[AttackResult]]:
    """A task's result, and where it picks among attacks theirs, which its samples hold as well."""
    missing = [key for key in _KEYS if key not in about]
    if missing:
        versions = about.get("versions")
        written = versions.get("midistill") if isinstance(versions, dict) else "another version"
        raise InputError(
            f"{path}: {name} was written by midistill {written}, which does not say its {', '.join(missing)}; "
            "evaluate the model again with this version"
        )
    check_about(about, f"{path}: {name}")
    samples = path.with_name(f"samples_{name}_{date}.jsonl")
    if not samples.is_file():
        raise InputError(f"{path} has no {samples.name} beside it: run lm_eval again with --log_samples")
    items, texts, names, blind_ranks, scores, groups = read_samples(samples)
    listed = "\n".join(sorted(f"{item.id}{item.label}" for item in items))
    if hashlib.sha256(listed.encode()).hexdigest() != about["data_sha256"]:
        raise InputError(
            f"{samples}: its {len(items)} texts are not those of {path.name} (data_sha256 differs); "
            "keep both files of one run together"
        )
    if len({item.label for item in items}) < 2:
        raise InputError(f"{samples}: all {len(items)} texts are of one class; an attack needs both, raise --limit")
    result = AttackResult(
        name=name,
        attack=str(about["attack"]),
        split=str(about["split"]),
        version=str(content.get("versions", {}).get(name, "")),
        path=samples,
        items=items,
        texts=texts,
        figures=_figures(content["results"].get(name, {})),
        metadata=about,
        blind_ranks=blind_ranks,
        names=names,
        groups=groups,
    )
    return result, [part(result, attack, own) for attack, own in scores.items() if not all(map(math.isnan, own))]


def _figures(row: Mapping[str, Any]) -> dict[str, Estimate]:
    """``metric`` (or ``metric,filter``, unless the filter is "none") → value and error of a row of the table."""
    figures = {}
    for key, value in row.items():
        metric, comma, kind = key.partition(",")
        number = as_number(value)
        is_word = math.isnan(number) and not (value is None or isinstance(value, float))
        if not comma or metric.endswith("_stderr") or is_word:
            continue
        stderr = as_number(row.get(f"{metric}_stderr,{kind}"))
        figures[metric if kind in FILTERS else key] = Estimate(number, stderr)
    return figures


def _utility(content: Mapping[str, Any], mia_tasks: set[str]) -> dict[str, Utility]:
    """Figures of all rows but the MIA tasks and the groups that one of them is in."""
    groups: Mapping[str, Sequence[str]] = content.get("group_subtasks", {})

    def holds_attacks(name: str, *above: str) -> bool:
        inside = (member for member in groups.get(name, ()) if member not in above)
        return name in mia_tasks or any(holds_attacks(member, name, *above) for member in inside)

    directions = content.get("higher_is_better", {})
    utility = {}
    for task, row in content["results"].items():
        if holds_attacks(task):
            continue
        for metric, (value, stderr) in _figures(row).items():
            better = (directions.get(task) or {}).get(metric.split(",")[0])
            if better is not None:
                utility[f"{task}/{metric}"] = Utility(task, metric, value, stderr, bool(better))
    return utility


def _versions(content: Mapping[str, Any], described: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    first: Mapping[str, str] = next(iter(described.values())).get("versions", {})
    named = {"lm_eval": content.get("lm_eval_version"), "transformers": content.get("transformers_version")}
    return {**first, **{name: str(version) for name, version in named.items() if version}}
