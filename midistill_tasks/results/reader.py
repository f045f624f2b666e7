"""Reads what the harness wrote: results_<date>.json and samples_<task>_<date>.jsonl of one model."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from midistill_tasks.errors import InputError
from midistill_tasks.metrics import METRICS, Scored
from midistill_tasks.metrics.estimate import Estimate
from midistill_tasks.metrics.scored import BoolArray, FloatArray
from midistill_tasks.metrics.thresholds import accuracies, crossfit_accuracies, crossfit_decisions

FIGURES = ("auroc", "tpr_at_1pct_fpr", "tpr_at_0.1pct_fpr", "balanced_acc", "member_acc", "nonmember_acc")
"""What `Task.measured` holds, in the order of the tables."""
_KEYS = ("attack", "split", "valid_for", "independent_coins", "options", "counts", "data_sha256", "versions")


class Utility(NamedTuple):
    """A figure of a task that is not a membership-inference attack."""

    task: str
    metric: str
    value: float
    stderr: float
    higher_is_better: bool


@dataclass(frozen=True)
class Task:
    """One attack on one model (or on an ensemble) over one split.

    Attributes:
        name: ``mia_<attack>_<split>``.
        version: of the task, as the harness writes it.
        items: the texts by rising id; two tasks on the same texts have them in the same order.
        texts: by id; empty where the run kept them out (``log_text`` false).
        figures: as they stand in the harness's table; `measured` has those that every task has.
        metadata: what the run says under ``metadata.midistill``.
        given: decisions of an ensemble's vote in the order of `items`; None where thresholds are cross-fitted.
    """

    name: str
    attack: str
    split: str
    version: str
    items: tuple[Scored, ...]
    texts: Mapping[str, str]
    figures: Mapping[str, Estimate]
    metadata: Mapping[str, Any]
    given: tuple[bool, ...] | None = None

    @cached_property
    def labels(self) -> BoolArray:
        """True = member, [n]."""
        return np.array([item.label == 1 for item in self.items], dtype=np.bool_)

    @cached_property
    def scores(self) -> FloatArray:
        """Higher = more likely a member, NaN = not scored, [n]."""
        return np.array([item.score for item in self.items], dtype=np.float64)

    @cached_property
    def clusters(self) -> list[str]:
        """The document of each text, [n]."""
        return [item.cluster for item in self.items]

    @cached_property
    def decisions(self) -> BoolArray:
        """Which texts are called members, [n]: by a threshold chosen without the text, or by an ensemble's vote.

        Raises:
            InputError: where there are too few scored texts of a class to choose a threshold on.
        """
        if self.given is not None:
            return np.array(self.given, dtype=np.bool_)
        try:
            return crossfit_decisions(self.items)
        except InputError as error:
            raise InputError(f"{self.name}: {error}") from None

    @cached_property
    def measured(self) -> dict[str, Estimate]:
        """The `FIGURES` with their standard errors, from the samples; NaN where the sample is too small for one.

        Raises:
            InputError: as `decisions`.
        """
        found: dict[str, Estimate] = {}
        for name in FIGURES[:3]:
            error = METRICS[name].stderr
            assert error is not None  # noqa: S101 (these three have one)
            found[name] = Estimate(METRICS[name].value(self.items), _number(error(self.items)))
        given = self.given is not None
        judged = accuracies(self.items, self.decisions) if given else crossfit_accuracies(self.items)
        return found | {"balanced_acc": judged.balanced, "member_acc": judged.member, "nonmember_acc": judged.nonmember}

    @property
    def blind(self) -> Estimate:
        """The blind baseline's AUROC on this split; NaN where the run has none."""
        return self.figures.get("blind_auroc", Estimate(math.nan, math.nan))


@dataclass(frozen=True)
class Run:
    """One evaluation of one model.

    Attributes:
        model: its name, as given to the harness.
        path: the results file.
        date: of the run, as in the file's name; sorts by time.
        tasks: the attacks that gave enough scores to be judged, by task name; empty where none did.
        skipped: task name → why it has no figures: no text has a score, or too few have.
        utility: the other tasks' figures, by ``task/metric``.
        versions: of the packages.
        config: how the harness was called: model, model_args, batch size, device, seeds, number of parameters.
    """

    model: str
    path: Path
    date: str
    tasks: Mapping[str, Task]
    skipped: Mapping[str, str]
    utility: Mapping[str, Utility]
    versions: Mapping[str, str]
    config: Mapping[str, Any]

    @property
    def splits(self) -> list[str]:
        """The splits that its attacks ran on, in the order of its tasks."""
        return list(dict.fromkeys(task.split for task in self.tasks.values()))

    def on(self, split: str) -> dict[str, Task]:
        """Its tasks on a split, by attack."""
        return {task.attack: task for task in self.tasks.values() if task.split == split}


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
        raise InputError(f"{run.path}: {why_unusable(run)}")
    return run


def read_runs(place: str | Path) -> list[Run]:
    """The newest run of every model under a folder, by folder name. Runs without one of our tasks are passed over.

    A run in which no attack can be judged has no `tasks`; `why_unusable` says why.

    Raises:
        InputError: if there are no results of MIA tasks; if a run has no samples, or was written by another version;
            if a file is broken, or does not belong to the results beside it.
    """
    return [_read(path) for path in _newest(Path(place))]


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
    newest = [next((path for path in paths if _mia_tasks(_load(path))), None) for _, paths in sorted(folders.items())]
    found = [path for path in newest if path is not None]
    if not found:
        raise InputError(f"{place} holds results, but of no MIA task: run lm_eval with tasks such as mia_bios too")
    return found


def _load(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise InputError(f"{path} is no readable JSON: give the results_*.json that lm_eval wrote") from None
    if not isinstance(content, dict) or not isinstance(content.get("results"), dict):
        raise InputError(f"{path} has no 'results': give the results_*.json that lm_eval wrote")
    return content


def _mia_tasks(content: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Task name → its ``metadata.midistill``."""
    found: dict[str, Mapping[str, Any]] = {}
    for name, config in content.get("configs", {}).items():
        ours = (config.get("metadata") or {}).get("midistill")
        if isinstance(ours, dict):
            found[name] = ours
    return found


def _read(path: Path) -> Run:
    content = _load(path)
    described = _mia_tasks(content)
    if not described:
        raise InputError(f"{path} holds no MIA task: run lm_eval with tasks such as mia_bios too")
    date = path.stem.removeprefix("results_")
    tasks = {name: _task(name, ours, content, path, date) for name, ours in described.items()}
    skipped = {name: reason for name, task in tasks.items() if (reason := _why_not(task))}
    return Run(
        model=str(content.get("model_name") or path.parent.name),
        path=path,
        date=date,
        tasks={name: task for name, task in tasks.items() if name not in skipped},
        skipped=skipped,
        utility=_utility(content, set(described)),
        versions=_versions(content, described),
        config=content.get("config", {}),
    )


def why_unusable(run: Run) -> str:
    """What to say of a run without `tasks`."""
    name, reason = next(iter(run.skipped.items()))
    return f"no MIA task has enough scores to be judged; {name}: {reason}"


def _why_not(task: Task) -> str:
    """Why the task has no figures; "" where it has."""
    if np.isnan(task.scores).all():
        return "; ".join(task.metadata.get("unscored_reasons", {})) or "the scores are NaN"
    try:
        _ = task.decisions
    except InputError as error:
        return str(error).removeprefix(f"{task.name}: ")
    return ""


def _task(name: str, ours: Mapping[str, Any], content: Mapping[str, Any], path: Path, date: str) -> Task:
    missing = [key for key in _KEYS if key not in ours]
    if missing:
        written = ours.get("versions", {}).get("midistill", "another version")
        raise InputError(
            f"{path}: {name} was written by midistill {written}, which does not say its {', '.join(missing)}; "
            "evaluate the model again with this version"
        )
    samples = path.with_name(f"samples_{name}_{date}.jsonl")
    if not samples.is_file():
        raise InputError(f"{path} has no {samples.name} beside it: run lm_eval again with --log_samples")
    items, texts = read_samples(samples)
    listed = "\n".join(sorted(f"{item.id}{item.label}" for item in items))
    if hashlib.sha256(listed.encode()).hexdigest() != ours["data_sha256"]:
        raise InputError(
            f"{samples}: its {len(items)} texts are not those of {path.name} (data_sha256 differs); "
            "keep both files of one run together"
        )
    if len({item.label for item in items}) < 2:
        raise InputError(f"{samples}: all {len(items)} texts are of one class; an attack needs both, raise --limit")
    return Task(
        name=name,
        attack=str(ours["attack"]),
        split=str(ours["split"]),
        version=str(content.get("versions", {}).get(name, "")),
        items=items,
        texts=texts,
        figures=_figures(content["results"].get(name, {})),
        metadata=ours,
    )


def read_samples(path: Path) -> tuple[tuple[Scored, ...], dict[str, str]]:
    """The texts of one MIA task by rising id, and their words by id as far as the file has them.

    Raises:
        InputError: for a broken line, a missing key, a label other than 0 and 1, or one id with two figures.
    """
    items: dict[str, Scored] = {}
    texts: dict[str, str] = {}
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            item, text = _sample(line, f"{path}, line {number}")
            known = items.setdefault(item.id, item)
            if repr(known) != repr(item):  # by repr, since NaN != NaN
                raise InputError(f"{path}, line {number}: the text {item.id} stands here twice with different figures")
            if text is not None:
                texts[item.id] = text
    return tuple(items[name] for name in sorted(items)), texts


def _sample(line: str, place: str) -> tuple[Scored, str | None]:
    try:
        doc = json.loads(line)["doc"]
        item = Scored(int(doc["label"]), float(doc["score"]), str(doc["id"]), str(doc.get("cluster", doc["id"])))
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{place} is not a sample of a MIA task: give the file that the harness wrote") from None
    if item.label not in (0, 1):
        raise InputError(f"{place}: the label is {item.label}; labels are 1 for members, 0 for non-members")
    return item, doc.get("text")


def _figures(row: Mapping[str, Any]) -> dict[str, Estimate]:
    """``metric`` (or ``metric,filter``, unless the filter is "none") → value and error of a row of the table."""
    found = {}
    for key, value in row.items():
        metric, comma, kind = key.partition(",")
        if not comma or metric.endswith("_stderr") or not isinstance(value, (int, float)):
            continue
        found[metric if kind == "none" else key] = Estimate(float(value), _number(row.get(f"{metric}_stderr,{kind}")))
    return found


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) else math.nan


def _utility(content: Mapping[str, Any], ours: set[str]) -> dict[str, Utility]:
    """Figures of all rows but our tasks and the groups that one of them is in."""
    groups: Mapping[str, Sequence[str]] = content.get("group_subtasks", {})

    def holds_ours(name: str) -> bool:
        return name in ours or any(holds_ours(member) for member in groups.get(name, ()))

    directions = content.get("higher_is_better", {})
    found = {}
    for task, row in content["results"].items():
        if holds_ours(task):
            continue
        for metric, (value, stderr) in _figures(row).items():
            better = directions.get(task, {}).get(metric.split(",")[0])
            if better is not None:
                found[f"{task}/{metric}"] = Utility(task, metric, value, stderr, bool(better))
    return found


def _versions(content: Mapping[str, Any], described: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    first: Mapping[str, str] = next(iter(described.values())).get("versions", {})
    named = {"lm_eval": content.get("lm_eval_version"), "transformers": content.get("transformers_version")}
    return {**first, **{name: str(version) for name, version in named.items() if version}}
