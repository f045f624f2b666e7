"""What the samples of a perplexity say of each text, ``heldout_<split>``'s above all: for its error over documents."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from midistill_tasks.errors import InputError
from midistill_tasks.metrics.clusters import cluster_codes
from midistill_tasks.metrics.estimate import Estimate, ratio
from midistill_tasks.metrics.scored import FloatArray
from midistill_tasks.results.run import Run
from midistill_tasks.splits.documents import text_id

UNITS = {"byte_perplexity": "byte", "word_perplexity": "word"}
"""Metric → what a log-perplexity of it is per; the first that the samples hold is taken."""


class Heldout(NamedTuple):
    """A model on the held-out texts.

    Attributes:
        ids: of the texts.
        losses: −log-likelihood of each whole text, nats, [n].
        sizes: its length in units, [n].
        unit: byte or word.
    """

    ids: tuple[str, ...]
    losses: FloatArray
    sizes: FloatArray
    unit: str

    @property
    def value(self) -> float:
        """The log-perplexity Σ losses / Σ sizes, nats a unit."""
        return float(self.losses.sum() / self.sizes.sum())


def read_heldout(run: Run, split: str) -> Heldout | None:
    """Of a run's task ``heldout_<split>``; None where it did not run, or its samples are not there.

    None also where a text has no probability, such as one with a token of the student's `red_list`.

    Raises:
        InputError: where the file of that name is not of that task.
    """
    task = f"heldout_{split}"
    metric = next((name for name in UNITS if f"{task}/{name}" in run.utility), None)
    if metric is None or (read := read_likelihoods(run, task, metric)) is None:
        return None
    losses, sizes = -read[1][:, 0], read[1][:, 1]
    if "" in read[0] or np.isnan(losses).any() or -math.inf in losses or not 0 < sizes.sum() < math.inf:
        raise _foreign(run, task)
    return Heldout(tuple(read[0]), losses, sizes, UNITS[metric]) if np.isfinite(losses).all() else None


def documents_of(run: Run, split: str) -> dict[str, str]:
    """The document that each text comes from, by id, as the run's attacks on the split have it; empty without any."""
    return {item.id: item.cluster for result in run.on(split).values() for item in result.items}


def over_documents(ids: Sequence[str], losses: FloatArray, sizes: FloatArray, documents: Mapping[str, str]) -> Estimate:
    """Σ losses / Σ sizes with its error over `documents`, by the id of a text; a text in none is one by itself.

    Passages of one article are about as hard as each other, so they are no independent texts.
    """
    codes = cluster_codes([documents.get(id, f"text {number}") for number, id in enumerate(ids)], len(ids))
    sums = (np.asarray(np.bincount(codes, weights=each), dtype=np.float64) for each in (losses, sizes))
    return ratio(*sums)


def read_likelihoods(run: Run, task: str, metric: str) -> tuple[list[str], FloatArray] | None:
    """What the samples say of a perplexity: ids of the texts, "" where they tell none, and [texts, 2], log-likelihood
    in nats and words or bytes.

    None where the samples are not there.

    Raises:
        InputError: where the file of that name is not of that task.
    """
    path = _samples(run, task)
    if not path.is_file():
        return None
    ids, pairs = [], []
    with path.open("rb") as lines:
        try:
            for line in lines:
                row = json.loads(line)
                ids.append(_id(row.get("doc")))
                pairs.append(row[metric])
            likelihoods = np.array(pairs, dtype=np.float64)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
            likelihoods = np.empty(0)
    if likelihoods.ndim != 2 or likelihoods.shape[1] != 2:
        raise _foreign(run, task)
    return ids, likelihoods


def _samples(run: Run, task: str) -> Path:
    return run.path.with_name(f"samples_{task}_{run.date}.jsonl")


def _foreign(run: Run, task: str) -> InputError:
    return InputError(f"{_samples(run, task)} is not of {task}: keep the files of one run together")


def _id(doc: Any) -> str:
    """As the samples of the attacks have it; a study that keeps its texts out writes it in their place."""
    known = doc if isinstance(doc, Mapping) else {}
    return text_id(known["text"]) if isinstance(known.get("text"), str) else str(known.get("id", ""))
