"""The error of a perplexity, which the harness does not give."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from midistill_tasks.compare.frontier.places import _place
from midistill_tasks.errors import InputError
from midistill_tasks.results.likelihoods import read_heldout
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


def passages(write_output, folder, loss):
    """A run on passages, four of an article each, of which the non-members are held out, and the error by article."""
    labels = np.repeat([1, 0] * 30, 4)
    clusters = [f"article {number // 4}" for number in range(240)]
    rng = np.random.default_rng(1)
    losses = np.repeat(rng.normal(2, 0.3, 60), 4) * 300 + rng.normal(0, 10, 240)
    by_article = losses.reshape(60, 4).mean(axis=1)[1::2] / 300
    losses[-1] = loss or losses[-1]
    utility = {"heldout_made": {"byte_perplexity": (7.4, "N/A", False)}}
    run = read_run(write_output(folder, labels, {"loss": -losses}, utility=utility))
    items = [item._replace(cluster=clusters[int(item.id, 16)]) for item in run.on("made")["loss"].items]
    name = "mia_loss_made"
    run = replace(run, tasks={name: replace(run.tasks[name], items=tuple(items))})
    held = [item for item in items if item.label == 0]
    rows = [{"doc": {"id": i.id}, "byte_perplexity": [float(-losses[int(i.id, 16)]), 300]} for i in held]
    (folder / f"samples_heldout_made_{run.date}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return run, by_article.std(ddof=1) / np.sqrt(30)


def test_passages_of_one_article_are_no_independent_texts(write_output, tmp_path):
    run, error = passages(write_output, tmp_path, None)
    found = with_error(run, run.utility["heldout_made/byte_perplexity"])
    assert found.stderr == pytest.approx(7.4 * error, rel=1e-6)
    placed = _place("arm", "", [run], "made")
    assert placed.utility.stderr == pytest.approx(error, rel=1e-6)
    without = with_error(replace(run, tasks={}), run.utility["heldout_made/byte_perplexity"])
    assert without.stderr < found.stderr / 1.7, "no attack says which article a passage is of"


def test_a_text_without_a_probability_has_no_perplexity_and_ends_nothing(write_output, tmp_path):
    """A student with a red_list gives a listed token none."""
    run, _ = passages(write_output, tmp_path, np.inf)
    assert read_heldout(run, "made") is None
    figure = run.utility["heldout_made/byte_perplexity"]
    assert np.isnan(with_error(run, figure).stderr)
    file = tmp_path / f"samples_heldout_made_{run.date}.jsonl"
    written = file.read_text()
    for damage in ("NaN", "Infinity"):
        file.write_text(written.replace("-Infinity", damage))
        with pytest.raises(InputError, match="keep the files of one run together"):
            read_heldout(run, "made")
