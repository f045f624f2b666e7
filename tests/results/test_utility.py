"""The error of a perplexity, which the harness does not give."""

from __future__ import annotations

import json

import numpy as np
import pytest

from midistill_tasks.results.reader import read_run
from midistill_tasks.results.run import Utility
from midistill_tasks.results.utility import with_error


def test_the_error_of_a_perplexity_is_that_of_a_ratio(write_output, draw, tmp_path):
    """Against the jackknife, leaving out one document at a time in a plain loop."""
    labels, scores = draw(np.random.default_rng(8), 40)
    run = read_run(write_output(tmp_path, labels, {"loss": scores}))
    rng = np.random.default_rng(0)
    words = rng.integers(20, 60, size=50)
    likelihood = -words * rng.normal(3.0, 0.2, size=50)
    rows = [json.dumps({"word_perplexity": [float(a), int(b)]}) for a, b in zip(likelihood, words, strict=True)]
    (tmp_path / f"samples_ppl_{run.date}.jsonl").write_text("\n".join(rows) + "\n")
    value = float(np.exp(-likelihood.sum() / words.sum()))
    found = with_error(run, Utility("ppl", "word_perplexity", value, float("nan"), False))
    left_out = []
    for number in range(50):
        rest = [n for n in range(50) if n != number]
        left_out.append(float(np.exp(-sum(likelihood[n] for n in rest) / sum(words[n] for n in rest))))
    jackknife = float(np.sqrt(49 / 50 * sum((one - np.mean(left_out)) ** 2 for one in left_out)))
    assert found.stderr == pytest.approx(jackknife, rel=0.02)
