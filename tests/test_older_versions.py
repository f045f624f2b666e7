"""What 0.1.0 wrote works as it did: students, results, task YAML and a study (made by written_by_0.1.0/make.py)."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from midistill_tasks.cli.main import main

OLD = Path(__file__).parent / "written_by_0.1.0"


@pytest.mark.parametrize("name", ["bottleneck_nonorm", "red_list_temperature"])
def test_a_student_has_its_logits(name):
    import torch
    from transformers import AutoModelForCausalLM

    from midistill_tasks.distill.architectures import register

    register()
    said = json.loads((OLD / "students" / name / "logits.json").read_text())
    model = AutoModelForCausalLM.from_pretrained(OLD / "students" / name).eval()
    with torch.no_grad():
        logits = model(input_ids=torch.tensor(said["input_ids"]), use_cache=False).logits.double().numpy()
    expected = np.array([[[float.fromhex(v) for v in token] for token in text] for text in said["logits"]])
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4)  # other processors sum in another order


def test_results_give_the_page_of_the_version_that_wrote_them(tmp_path, monkeypatch):
    monkeypatch.chdir(OLD)
    assert main(["report", "results", "--teacher", "big", "--output", str(tmp_path)]) == 0
    assert {path.name for path in tmp_path.glob("*.csv")} >= {path.name for path in OLD.glob("page/*.csv")}
    check_areas(tmp_path, OLD / "page")


def check_areas(page, before):
    """The AUROCs of each model are those of the old page; intervals and words follow newer rules."""
    for path in before.glob("auroc*.csv"):
        rows, old = (list(csv.DictReader(file.open(encoding="utf-8"))) for file in (page / path.name, path))
        assert len(rows) == len(old) > 0
        for row, was in zip(rows, old, strict=True):
            for column in ("arm", "attack", "student"):
                assert row[column] == was[column]
            for column in ("teacher", "student"):
                assert float(row[f"{column}_auroc"]) == pytest.approx(float(was[f"{column} AUROC"]), abs=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mia_notes", "mia_mink_notes"])
def test_the_yaml_of_a_user_gives_the_scores_it_gave(name, tmp_path, monkeypatch):
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    shutil.copytree(OLD / "yaml", tmp_path / "yaml")
    shutil.copy(OLD / "notes.jsonl", tmp_path)
    monkeypatch.chdir(tmp_path)
    got = simple_evaluate(
        "hf",
        model_args=f"pretrained={OLD / 'students/bottleneck_nonorm'},dtype=float32",
        tasks=[f"yaml/{name}.yaml"],
        device="cpu",
        batch_size=8,
        task_manager=TaskManager(),
    )
    said = json.loads((OLD / "yaml" / f"{name}.figures.json").read_text())

    for task, scores in said["scores"].items():
        rows = {row["doc"]["id"]: row["doc"]["score"] for row in got["samples"][task]}
        assert rows.keys() >= scores.keys(), "and those that were cut to balance the sides"
        assert {name: rows[name] for name in scores} == pytest.approx(scores, rel=1e-5, abs=1e-6, nan_ok=True)
    once = {key for row in got["results"].values() for key in row if key.startswith("blind_auroc")}
    for task, figures in said["results"].items():  # the baseline of a group stands in one of its rows
        shown = {key for key in figures if "_stderr_stderr" not in key}
        assert got["results"][task].keys() | once >= shown


def test_a_finished_study_is_found_finished(tmp_path, monkeypatch, capsys):
    """Its recipe, teacher, texts and students are recognised as what they are, and none is made again."""
    shutil.copytree(OLD / "study", tmp_path / "study")
    for name in ("study.yaml", "members.jsonl", "nonmembers.jsonl"):
        shutil.copy(OLD / name, tmp_path)
    monkeypatch.chdir(tmp_path)

    assert main(["study", "study.yaml", "--dry-run"]) == 0
    *plan, _cost = capsys.readouterr().out.splitlines()
    assert plan == (OLD / "plan.txt").read_text().splitlines()[:-1]
    assert main(["study", "study.yaml"]) == 0
    check_areas(tmp_path / "study" / "report", OLD / "study" / "report")
    for path in (OLD / "study").rglob("results_*.json"):
        assert len(list((tmp_path / path.relative_to(OLD)).parent.glob("results_*.json"))) == 1
