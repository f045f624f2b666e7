"""The standard error of a perplexity, which the harness leaves out of its table, from the run's samples."""

from __future__ import annotations

import math

import numpy as np

from midistill_tasks.results.likelihoods import documents_of, over_documents, read_likelihoods
from midistill_tasks.results.run import Run, Utility

PERPLEXITIES = ("word_perplexity", "byte_perplexity", "bits_per_byte")
"""Whose samples hold (log-likelihood in nats, words or bytes) per document."""


def with_error(run: Run, utility: Utility) -> Utility:
    """The figure with its error over documents; as it is where the samples are not there or hold no such figure.

    The mean −Σℓ/Σw is a ratio of sums over documents; a perplexity exp(m) has exp(m) times the error of its mean m.
    What one sample holds is a document by itself, but for ``heldout_<split>``, where the run attacks that split, too.
    """
    if utility.metric not in PERPLEXITIES or not math.isnan(utility.stderr):
        return utility
    read = read_likelihoods(run, utility.task, utility.metric)
    if read is None or not np.isfinite(read[1]).all():
        return utility
    documents = documents_of(run, utility.task.removeprefix("heldout_"))
    log_likelihood, units = read[1].T
    scale = 1 / math.log(2) if utility.metric == "bits_per_byte" else utility.value
    return utility._replace(stderr=over_documents(read[0], -log_likelihood, units, documents).stderr * scale)
