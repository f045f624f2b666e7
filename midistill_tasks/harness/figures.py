"""From scores to the figures of the table: the metrics that a task shows, and the blind baseline of its split."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from midistill_tasks.attacks import Attack
from midistill_tasks.errors import warn_once
from midistill_tasks.harness.keys import TaskKeys
from midistill_tasks.metrics import METRICS, Metric, Scored
from midistill_tasks.metrics.blind import Blind, blind_auroc
from midistill_tasks.metrics.epsilon import epsilon_of_task
from midistill_tasks.metrics.halves import HALVES
from midistill_tasks.splits.documents import Documents

Figures = dict[str, Callable[[Sequence[Scored]], Any]]

_blind: WeakKeyDictionary[Documents, dict[str, Blind]] = WeakKeyDictionary()
"""The baseline by a hash of the documents it was computed on: six attacks on a split share it."""


def aggregations(keys: TaskKeys, documents: Documents, scored: Sequence[str]) -> Figures:
    """Per metric its value, followed by its standard error under ``<name>_stderr``, which tables and groups use.

    Args:
        keys: read here: which metrics.
        documents: of the split.
        scored: ids of those that the whole run scores, on all ranks.
    """
    chosen: Figures = {}
    for name in keys.metrics:
        if name == "blind_auroc":
            chosen |= {
                name: lambda items: _blind_baseline(documents, scored).value,
                f"{name}_stderr": lambda items: _blind_stderr(keys, _blind_baseline(documents, scored), items),
            }
            continue
        metric = metrics_of(keys.attack)[name]
        bounded = name == "epsilon_lower"
        chosen[name] = (lambda items: _epsilon(keys, documents, items)) if bounded else metric.value
        if metric.stderr is not None:
            chosen[f"{name}_stderr"] = metric.stderr
    return chosen


def no_figures(keys: TaskKeys) -> Figures:
    """Of a shard: its figures would not be those of the split."""
    figures: Figures = {}
    for name in keys.metrics:
        figures |= {name: lambda items: math.nan, f"{name}_stderr": lambda items: "N/A"}
    return figures


def directions(keys: TaskKeys) -> dict[str, bool | None]:
    """False where less leaks less; None for what has no direction."""
    return {name: METRICS[name].higher_is_better if name in METRICS else None for name in keys.metrics}


def blind_ranks(keys: TaskKeys, documents: Documents, scored: Sequence[str]) -> dict[str, float]:
    """What the samples keep of the baseline, by id; see `Blind.ranks`. Empty where the task does not show it."""
    if not keys.blind:
        return {}
    ranks = _blind_baseline(documents, scored).ranks.tolist()
    return {name: rank for name, rank in zip(scored, ranks, strict=True) if not math.isnan(rank)}


def blind_estimate(documents: Documents, scored: Sequence[str]) -> dict[str, float]:
    """The baseline as results keep it beside every task of the split, in whose row it need not stand."""
    value, stderr, _ = _blind_baseline(documents, scored)
    return {"value": value, "stderr": stderr}


def metrics_of(attack: Attack) -> Mapping[str, Metric]:
    """The figures that its tasks may show."""
    return HALVES if attack.picks else METRICS


def _blind_baseline(documents: Documents, scored: Sequence[str]) -> Blind:
    """The bag-of-words baseline on the documents that were scored; once per split."""
    known = _blind.setdefault(documents, {})
    key = hashlib.sha256("".join(scored).encode()).hexdigest()
    if key not in known:
        docs = documents.docs
        place = {name: number for number, name in enumerate(docs["id"])}
        chosen = docs.select([place[name] for name in scored])
        known[key] = blind_auroc(chosen["text"][:], chosen["label"][:], chosen["cluster"][:])
    return known[key]


def _epsilon(keys: TaskKeys, documents: Documents, items: Sequence[Scored]) -> float:
    about = {"counts": documents.counts, "learnt": keys.learnt, "options": {"n": keys.options.texts.n}}
    return epsilon_of_task(items, about | documents.coins, keys.split_name, keys.attack.name, keys.attack.knows_labels)


def _blind_stderr(keys: TaskKeys, baseline: Blind, items: Sequence[Scored]) -> float | str:
    value, stderr, _ = baseline
    attack = metrics_of(keys.attack)["auroc"].value(items)
    if value > max(attack, 1 - attack):
        warn_once(
            f"[{keys.split_name}] a bag-of-words classifier that never sees the model reaches AUROC {value:.3f}: "
            "where that beats an attack, the split measures how its two sides differ, not what the model remembers"
        )
    return "N/A" if math.isnan(stderr) else stderr
