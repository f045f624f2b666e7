"""The task YAMLs are what their generator makes."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import yaml

from midistill_tasks.attacks import ATTACKS, Attack
from midistill_tasks.metrics import METRICS
from midistill_tasks.splits import SPLITS
from midistill_tasks.views import TEXT

FOLDER = Path(__file__).parents[2] / "task_yamls"


@pytest.fixture(scope="module")
def generator() -> Any:
    spec = importlib.util.spec_from_file_location("generate", FOLDER / "_generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_committed_files_are_what_the_generator_makes(generator):
    assert generator.differences(generator.files()) == ([], [])


def test_a_file_changed_by_hand_and_one_left_over_are_found(generator, tmp_path):
    made = generator.files()
    for name, text in made.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert generator.differences(made, tmp_path) == ([], [])
    (tmp_path / "bios" / "mia_loss_bios.yaml").write_text("task: other\n")
    (tmp_path / "bios" / "mia_old_bios.yaml").write_text("task: old\n")
    assert generator.differences(made, tmp_path) == (["bios/mia_loss_bios.yaml"], ["bios/mia_old_bios.yaml"])


def test_a_new_attack_is_one_line_in_the_registry(generator, monkeypatch):
    before = generator.files()
    new = Attack("half", "half the likelihood", "nobody 2099", (TEXT,), lambda stats, text: 0.5)
    monkeypatch.setitem(ATTACKS, "half", new)
    made = generator.files()
    assert set(made) - set(before) == {f"{split}/mia_half_{split}.yaml" for split in SPLITS}
    content = yaml.safe_load(made["bios/mia_half_bios.yaml"])
    assert content == {
        "include": "_bios_template",
        "task": "mia_half_bios",
        "tag": "mia_half",
        "attack": "half",
    }
    assert {"task": "mia_half_bios", "optional": True} in yaml.safe_load(made["bios/mia_bios.yaml"])["task"]


def test_there_is_a_task_for_every_attack_on_every_split_and_a_group_for_every_split(task_manager):
    for split in SPLITS:
        assert f"mia_{split}" in task_manager.all_groups
        assert f"heldout_{split}" in task_manager.all_subtasks
        for attack in ATTACKS:
            assert f"mia_{attack}_{split}" in task_manager.all_subtasks
    assert "mia_paper" in task_manager.all_groups
    assert task_manager.all_tags == sorted(f"mia_{attack}" for attack in ATTACKS)
    assert len(task_manager.all_subtasks) == (len(ATTACKS) + 1) * len(SPLITS)


def test_the_harness_loads_every_template_with_its_own_keys(task_manager):
    from lm_eval.tasks._yaml_loader import load_yaml

    from midistill_tasks.harness.task import DEFAULT_METRICS, MIATask

    for split in SPLITS.values():
        config = load_yaml(task_manager.task_index[f"mia_loss_{split.name}"].yaml_path)
        assert config["class"] is MIATask
        assert config["output_type"] == "loglikelihood_rolling"
        assert config["num_fewshot"] == 0
        assert [entry["metric"] for entry in config["metric_list"]] == list(DEFAULT_METRICS)
        for entry in config["metric_list"]:
            metric = METRICS.get(entry["metric"])
            assert entry["higher_is_better"] == (metric.higher_is_better if metric else None)
        assert {key: config[key] for key in split.config} == dict(split.config)
