"""What the samples of ``heldout_<split>`` say of each held-out text, for the error of a perplexity over texts."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import NamedTuple

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
    path = run.path.with_name(f"samples_{task}_{run.date}.jsonl")
    metric = next((name for name in UNITS if f"{task}/{name}" in run.utility), None)
    if metric is None or not path.is_file():
        return None
    ids, pairs = [], []
    with path.open("rb") as lines:
        try:
            for line in lines:
                row = json.loads(line)
                ids.append(_id(row["doc"]))
                loss, size = row[metric]
                pairs.append((-float(loss), float(size)))
        except (ValueError, KeyError, TypeError, OverflowError):
            pairs = []
    losses, sizes = np.array(pairs, dtype=np.float64).reshape(-1, 2).T
    if not (len(losses) and np.isfinite(losses).all() and sizes.sum() > 0) or not math.isfinite(sizes.sum()):
        raise InputError(f"{path} is not of {task}: keep the files of one run together")
    return Heldout(tuple(ids), losses, sizes, UNITS[metric])


def _id(doc: Mapping[str, str]) -> str:
    """As the samples of the attacks have it; a study that keeps its texts out writes it in their place."""
    return str(doc["id"]) if "text" not in doc else text_id(doc["text"])
