"""The standard error of a perplexity, which the harness leaves out of its table, from the run's samples."""

from __future__ import annotations

import json
import math

import numpy as np

from midistill_tasks.results.reader import Run, Utility

METRICS = ("word_perplexity", "byte_perplexity", "bits_per_byte")
"""Whose samples hold (log-likelihood in nats, words or bytes) per document."""


def with_error(run: Run, utility: Utility) -> Utility:
    """The figure with its error over documents; as it is where the samples are not there or hold no such figure.

    The mean −Σℓ/Σw is a ratio of sums over documents, so its variance is n/(n−1) · Σ(ℓ_i + m·w_i)² / (Σw)² with m the
    mean (linearisation: Cochran, Sampling Techniques, chapter 6); a perplexity exp(m) has exp(m) times that error.
    """
    path = run.path.with_name(f"samples_{utility.task}_{run.date}.jsonl")
    if utility.metric not in METRICS or not math.isnan(utility.stderr) or not path.is_file():
        return utility
    with path.open(encoding="utf-8") as lines:
        pairs = np.array([json.loads(line)[utility.metric] for line in lines], dtype=np.float64)
    if len(pairs) < 2:
        return utility
    log_likelihood, units = pairs.T
    mean = -log_likelihood.sum() / units.sum()
    residuals = log_likelihood + mean * units
    count = len(pairs)
    error = math.sqrt(count / (count - 1) * float(residuals @ residuals)) / float(units.sum())
    scale = 1 / math.log(2) if utility.metric == "bits_per_byte" else utility.value
    return utility._replace(stderr=error * scale)
