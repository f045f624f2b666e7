from __future__ import annotations

import json

import pytest

from midistill_tasks.results.roles import read_group
from midistill_tasks.study.recipe import Study
from midistill_tasks.study.run import run_study

ARMS = {
    "vanilla": {},
    "non_vulnerable": {"non_vulnerable": True},
    "random_drop": {"random_drop": True},
    "bottleneck": {"bottleneck": 64},
    "nonorm": {"nonorm": True},
}


@pytest.mark.slow
def test_a_real_model_teaches_students_that_the_harness_loads_and_attacks_on_all_members(
    smollm2_folder, shared, tmp_path
):
    rows = (shared / "data" / "brown.jsonl").read_text(encoding="utf-8").splitlines()[::20]
    (tmp_path / "brown.jsonl").write_text("\n".join(rows), encoding="utf-8")
    study = Study.model_validate(
        {
            "output": str(tmp_path / "study"),
            "teacher": {"model": str(smollm2_folder), "fine_tune": {"epochs": 2, "learning_rate": 2e-5}},
            "student": {"every_nth_layer": 15},
            "documents": {"path": str(tmp_path / "brown.jsonl"), "tokens": 32},
            "train": {"epochs": 1, "warmup_steps": 1, "audit_every": 1000, "audit_texts": 2, "learning_rate": 1e-3},
            "arms": ARMS,
            "evaluate": {"attacks": ["loss", "ref"], "reference": str(smollm2_folder)},
        }
    )

    assert run_study(study).failed == {}

    group = read_group([study.output])
    assert [entry.name for entry in group.entries] == ["teacher", *ARMS]
    judged = {frozenset(item.id for item in run.tasks["mia_loss_files"].items) for run in group.runs}
    assert len(judged) == 1  # the same members for every arm, whatever it was trained on
    teacher = next(run for run in group.runs if "teacher" in run.model)
    assert teacher.tasks["mia_ref_files"].measured["auroc"].value > 0.75
    kept = json.loads((tmp_path / "study" / "selection" / "selection.json").read_text())
    assert kept
