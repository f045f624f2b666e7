"""What is written is strict JSON, and read as if it held NaN."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from midistill_tasks.harness.hooks.requests import answer_requests
from midistill_tasks.metrics.roc import auroc
from midistill_tasks.report.build import build, write
from midistill_tasks.results.reader import read_run
from midistill_tasks.results.roles import read_group
from midistill_tasks.results.strict import from_strict, strict, strict_sample


def refuse(word: str) -> Any:
    raise AssertionError(f"{word} is no JSON")


@pytest.mark.slow
def test_a_run_of_the_harness_writes_null_where_there_is_no_figure(tmp_path, tiny, texts):
    import subprocess
    import sys

    sides = {"members": [*texts[:9], "a"], "nonmembers": texts[20:30]}
    for name, some in sides.items():
        (tmp_path / f"{name}.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in some))
    mia = {name: str(tmp_path / f"{name}.jsonl") for name in sides}
    command = [sys.executable, "-m", "lm_eval", "--tasks", "mia_loss_files", "--model", "hf", "--log_samples"]
    command += ["--model_args", f"pretrained={tiny('gpt2')}", "--device", "cpu", "--output_path", str(tmp_path / "out")]
    subprocess.run([*command, "--metadata", json.dumps({"mia": mia})], check=True, capture_output=True)
    (results,) = Path(tmp_path / "out").rglob("results_*.json")
    (samples,) = Path(tmp_path / "out").rglob("samples_*.jsonl")
    row = json.loads(results.read_text(), parse_constant=refuse)["results"]["mia_loss_files"]
    assert row["tpr_at_1pct_fpr,none"] is None
    assert not [key for key in row if "_stderr_stderr" in key]
    scores = [json.loads(line, parse_constant=refuse)["doc"]["score"] for line in samples.read_text().splitlines()]
    assert scores.count(None) == 1
    run = read_run(results.parent)
    assert math.isnan(run.tasks["mia_loss_files"].figures["tpr_at_1pct_fpr"].value)
    assert sum(map(math.isnan, run.tasks["mia_loss_files"].scores)) == 1


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_only_what_is_no_number_changes(value):
    content = {"a": [value, (1, 2.5, "x")], "b_stderr_stderr,none": "N/A", "c": None}
    assert strict(content) == {"a": [None, [1, 2.5, "x"]], "c": None}


@pytest.mark.parametrize("value", [-math.inf, math.inf, math.nan, 0.0, -1.5])
def test_a_text_s_score_comes_back_as_it_was(value):
    line = json.dumps(strict_sample({"score": value}), allow_nan=False)
    np.testing.assert_equal(from_strict(json.loads(line)["score"]), value)


def test_infinite_scores_count_on_the_page_as_in_the_table(draw, write_output, tmp_path):
    labels, scores = draw(np.random.default_rng(4), 300, 0.7)
    scores[:40], scores[40:60] = -math.inf, math.inf
    for model in ("big", "small"):
        write_output(tmp_path / "out" / model, labels, {"loss": scores, "mink": np.roll(scores, 7)}, model=model)
    group = read_group([tmp_path / "out"])
    assert group.runs[0].tasks["mia_loss_made"].measured["auroc"].value == auroc(labels, scores)
    page = write(build(group), tmp_path / "page").read_text(encoding="utf-8")
    assert f"{auroc(labels, scores):.3f}" in page


def test_the_harness_is_changed_once():
    from lm_eval.loggers import EvaluationTracker

    answer_requests()
    before = EvaluationTracker.save_results_samples
    answer_requests()
    assert EvaluationTracker.save_results_samples is before
