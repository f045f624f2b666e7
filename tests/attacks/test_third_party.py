"""An attack of another package, with a view and an option of its own, is a task like ours: one file, no YAML."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from made_package import install, lm_eval, run_with

SOURCE = """
from midistill_tasks import TEXT, TokenStats, View, attack, option
from midistill_tasks.attacks.likelihood import mean_logprob

LOWER = View("lower", transform=str.lower)


@attack("low_case", "the lower-cased text over the text", source="Carlini et al. 2021", views=(LOWER,))
def low_case(text: TokenStats, lower: TokenStats, *, power: float = option(1.0, "of the ratio", gt=0)) -> float:
    return -((mean_logprob(lower) / mean_logprob(text)) ** power)
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    install(tmp_path / "site", "my_attack", SOURCE, "midistill.attacks")
    return tmp_path / "site"


@pytest.mark.slow
def test_it_runs_by_the_stock_command_under_its_own_name(package, tmp_path, tiny, texts, scoring):
    for name, part in (("members", texts[:12]), ("nonmembers", texts[12:26])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in part))
    mia = {name: str(tmp_path / f"{name}.jsonl") for name in ("members", "nonmembers")} | {"low_case": {"power": 2}}
    done = lm_eval(
        package,
        *("--tasks", "mia_low_case_files,mia_loss_files", "--model", "hf", "--device", "cpu", "--batch_size", "8"),
        *("--model_args", f"pretrained={tiny('gpt2')},dtype=float32", "--metadata", json.dumps({"mia": mia})),
        *("--output_path", str(tmp_path / "out"), "--log_samples"),
    )

    assert done.returncode == 0, done.stderr[-3000:]
    assert "|mia_low_case_files" in done.stdout
    (samples,) = (tmp_path / "out").rglob("samples_mia_low_case_files_*.jsonl")
    docs = [json.loads(line)["doc"] for line in samples.read_text().splitlines()]
    plain, lower = (
        scoring.attack(scoring.load(tiny("gpt2")), [change(doc["text"]) for doc in docs], texts[12:14])["loss"]
        for change in (str, str.lower)
    )
    expected = -((np.array(lower) / np.array(plain)) ** 2)
    assert [doc["score"] for doc in docs] == pytest.approx(expected.tolist(), rel=1e-4)
    (results,) = (tmp_path / "out").rglob("results_*.json")
    record = json.loads(results.read_text())["configs"]["mia_low_case_files"]["metadata"]["midistill"]
    assert record["options"]["power"] == 2


def test_it_stands_in_lists_groups_tags_and_the_folder_for_include_path(package):
    listed = run_with(package, "from midistill_tasks.cli.main import main; main(['tasks'])")
    assert "low_case   the lower-cased text over the text (Carlini et al. 2021)" in listed.stdout
    path = run_with(package, "from midistill_tasks.cli.main import main; main(['tasks', 'path'])").stdout.strip()
    code = (
        "import sys\nfrom lm_eval.tasks import TaskManager\n"
        "manager = TaskManager(include_defaults=False, include_path=sys.argv[1])\n"
        "print('mia_low_case_bios' in manager.all_subtasks, len(manager.task_index['mia_low_case'].tags))\n"
        "print(len(manager.load(['mia_bios'])['group_map']['mia_bios']))"
    )
    assert run_with(package, code, path).stdout.split() == ["True", "15", "8"]


def test_an_option_that_it_does_not_have_is_refused_by_name(package):
    code = (
        "from midistill_tasks.harness.options import parse_options\n"
        "parse_options({'mia': {'power': 3}})\nparse_options({'mia': {'low_case': {'pover': 3}}})"
    )
    assert "'low_case' has no option 'pover' (did you mean 'power'?)" in run_with(package, code).stderr
