"""Somebody who keeps a leaderboard: one row a model, and files that a program reads."""

from __future__ import annotations

import json
import re

import pytest

from midistill_tasks.report.machine import read_report

pytestmark = pytest.mark.slow


def test_one_row_to_publish_and_files_that_programs_read(leaking, people, shell, tmp_path):
    for name, texts in (("members", people[:200]), ("nonmembers", people[300:510])):
        (tmp_path / f"{name}.txt").write_text("\n".join(texts), encoding="utf-8")
    options = json.dumps({"mia": {"members": "members.txt", "nonmembers": "nonmembers.txt"}})
    model = ("--model", "hf", "--model_args", f"pretrained={leaking},dtype=float32", "--device", "cpu")
    ran = shell(
        *("lm_eval", "--tasks", "mia_strongest_files,heldout_files", *model, "--batch_size", "16"),
        *("--metadata", options, "--output_path", "results", "--log_samples"),
    )
    table = [line for line in ran.out.splitlines() if (line.startswith("|") and "mia" in line) or "|none" in line]
    rows = [
        re.findall(r"\|(auroc|blind_auroc|tpr_at_1pct_fpr|\w+_perplexity|bits_per_byte) *\|", line) for line in table
    ]
    assert [found[0] for found in rows if found] == [
        *("bits_per_byte", "byte_perplexity", "word_perplexity"),
        *("auroc", "blind_auroc", "tpr_at_1pct_fpr"),
    ]
    assert re.search(
        r"\[mia_strongest_files\] each half is judged by what is strongest on the other: \w+, \w+", ran.err
    )

    (results,) = (tmp_path / "results").rglob("results_*.json")

    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    content = json.loads(results.read_text(), parse_constant=refuse)
    row = content["results"]["mia_strongest_files"]
    assert not [key for key in row if "_stderr_stderr" in key]
    assert row["auroc,none"] > 0.8
    about = content["configs"]["mia_strongest_files"]["metadata"]["midistill"]
    assert about["schema_version"] == 1
    assert len(about["chosen"]) == 2

    shell("midistill", "report", "results", "--json")
    (run,) = read_report(tmp_path / "report").models[0].runs
    assert run.published["files"].auroc.value == row["auroc,none"]
    assert run.published["files"].attacks == about["chosen"]
    assert {attack.attack for attack in run.attacks} == {"loss", "zlib", "mink", "minkpp", "recall"}
    assert run.utility["heldout_files/word_perplexity"].value > 1
    figures = {attack.attack: attack.figures["auroc"] for attack in run.attacks}
    assert all(0 <= figure.lower <= figure.value <= figure.upper <= 1 for figure in figures.values())


def test_a_run_without_any_figure_fails_and_says_why(leaking, people, shell, tmp_path):
    for name, texts in (("members", people[:20]), ("nonmembers", people[300:330])):
        (tmp_path / f"{name}.txt").write_text("\n".join(texts), encoding="utf-8")
    options = json.dumps({"mia": {"members": "members.txt", "nonmembers": "nonmembers.txt"}})
    args = f"pretrained={leaking},dtype=float32,max_length=16"
    ran = shell(
        *("lm_eval", "--tasks", "mia_recall_files", "--model", "hf", "--model_args", args, "--device", "cpu"),
        *("--metadata", options),
        code=1,
    )
    assert (
        ran.err.strip().splitlines()[-1].startswith("midistill: no figures of mia_recall_files: recall: the first shot")
    )
