"""What the samples of a perplexity say of each text, ``heldout_<split>``'s above all: for its error over texts."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from midistill_tasks.errors import InputError
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

    Raises:
        InputError: where the file of that name is not of that task.
    """
    task = f"heldout_{split}"
    metric = next((name for name in UNITS if f"{task}/{name}" in run.utility), None)
    if metric is None or (read := read_likelihoods(run, task, metric, _id)) is None:
        return None
    log_likelihoods, sizes = read[1].T
    if not (np.isfinite(read[1]).all() and 0 < sizes.sum() < math.inf):
        raise _foreign(run, task)
    return Heldout(tuple(read[0]), -log_likelihoods, sizes, UNITS[metric])


def read_likelihoods(
    run: Run, task: str, metric: str, name: Callable[[Any], str] = lambda _: ""
) -> tuple[list[str], FloatArray] | None:
    """What the samples say of a perplexity: documents by name, and [documents, 2], log-likelihood in nats and words or
    bytes.

    None where the samples are not there.

    Raises:
        InputError: where the file of that name is not of that task.
    """
    path = _samples(run, task)
    if not path.is_file():
        return None
    names, pairs = [], []
    with path.open("rb") as lines:
        try:
            for line in lines:
                row = json.loads(line)
                names.append(name(row.get("doc")))
                pairs.append(row[metric])
            likelihoods = np.array(pairs, dtype=np.float64)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
            likelihoods = np.empty(0)
    if likelihoods.ndim != 2 or likelihoods.shape[1] != 2:
        raise _foreign(run, task)
    return names, likelihoods


def _samples(run: Run, task: str) -> Path:
    return run.path.with_name(f"samples_{task}_{run.date}.jsonl")


def _foreign(run: Run, task: str) -> InputError:
    return InputError(f"{_samples(run, task)} is not of {task}: keep the files of one run together")


def _id(doc: Mapping[str, str]) -> str:
    """As the samples of the attacks have it; a study that keeps its texts out writes it in their place."""
    return str(doc["id"]) if "text" not in doc else text_id(doc["text"])
