"""The YAML of each split is what its generator makes, and the tasks of all attacks come from it."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from midistill_tasks.attacks import ATTACKS
from midistill_tasks.harness import expand
from midistill_tasks.harness.hooks.tasks import split_yamls
from midistill_tasks.metrics import METRICS
from midistill_tasks.splits import SPLITS

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
        (tmp_path / name).write_text(text)
    assert generator.differences(made, tmp_path) == ([], [])
    (tmp_path / "mia_bios.yaml").write_text("task: other\n")
    (tmp_path / "mia_old.yaml").write_text("task: old\n")
    assert generator.differences(made, tmp_path) == (["mia_bios.yaml"], ["mia_old.yaml"])


def test_the_tasks_are_expanded_with_what_a_wheel_is_built_with():
    """pip builds in an environment that has `[build-system] requires` and nothing else."""
    code = f"""
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

needed = {{"numpy", "pydantic", "pydantic_core", "annotated_types", "typing_inspection", "typing_extensions", "yaml"}}
others = packages_distributions().keys() - needed - {{"midistill_tasks"}}

class NotInstalled:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in others:
            raise ModuleNotFoundError(f"no {{name}} where a wheel is built")

sys.meta_path.insert(0, NotInstalled())
from midistill_tasks.harness import expand
print(len(expand.files(Path({str(FOLDER)!r}))))
"""
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=FOLDER.parent)
    assert made.returncode == 0, made.stderr
    assert int(made.stdout) > len(SPLITS)


def test_the_files_of_a_folder_say_what_the_index_in_memory_says(task_manager):
    """`midistill tasks path` without the plugin, and the plugin without files, give the harness the same tasks."""
    from lm_eval.tasks._index import TaskIndex
    from lm_eval.tasks._yaml_loader import load_yaml

    in_memory: dict[str, Any] = {}
    for config in expand.entries(split_yamls()):
        TaskIndex.process_cfg(config, None, in_memory)
    of_files = task_manager.task_index
    assert in_memory.keys() == of_files.keys()
    functions = ("class", "custom_dataset")
    for name, entry in in_memory.items():
        assert (entry.kind, entry.tags) == (of_files[name].kind, of_files[name].tags)
        if entry.cfg is not None:
            written = load_yaml(of_files[name].yaml_path, resolve_func=True)
            plain = {key: value for key, value in entry.cfg.items() if key not in functions}
            assert plain == {key: value for key, value in written.items() if key not in functions}
            assert [key for key in functions if key in entry.cfg] == [key for key in functions if key in written]


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

    from midistill_tasks.harness.keys import DEFAULT_METRICS
    from midistill_tasks.harness.task import MIATask

    for split in SPLITS.values():
        config = load_yaml(task_manager.task_index[f"mia_loss_{split.name}"].yaml_path)
        assert config["class"] is MIATask
        assert config["output_type"] == "loglikelihood_rolling"
        assert config["num_fewshot"] == 0
        assert [entry["metric"] for entry in config["metric_list"]] == [*DEFAULT_METRICS, *split.metrics]
        for entry in config["metric_list"]:
            metric = METRICS.get(entry["metric"])
            assert entry["higher_is_better"] == (metric.higher_is_better if metric else None)
        assert {key: config[key] for key in split.config} == dict(split.config)
