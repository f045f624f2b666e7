"""`torchrun` without GPUs: the processes share the texts, and the figures are those of one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from made_students import teacher_folder  # noqa: F401 (fixture)


def evaluate(model: Path, output: Path, *launcher: str) -> dict:
    subprocess.run(
        [
            *(sys.executable, *launcher, "-m", "lm_eval", "--tasks", "mia_loss_bios,mia_minkpp_bios,heldout_bios"),
            *("--model", "hf", "--model_args", f"pretrained={model},dtype=float32", "--device", "cpu"),
            *("--limit", "25", "--batch_size", "4", "--log_samples", "--output_path", str(output)),
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=True,
    )
    (file,) = output.rglob("results_*.json")
    assert len(list(output.rglob("samples_mia_loss_bios_*.jsonl"))) == 1
    return json.loads(file.read_text())["results"]


@pytest.mark.slow
def test_two_processes_on_a_cpu_share_the_texts_and_find_what_one_finds(teacher_folder, tmp_path):  # noqa: F811
    one = evaluate(teacher_folder, tmp_path / "one")
    two = evaluate(
        teacher_folder, tmp_path / "two", "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"
    )
    assert two.keys() == one.keys()
    for task, figures in one.items():
        for name, value in figures.items():
            if isinstance(value, float) and "stderr" not in name:
                assert two[task][name] == pytest.approx(value, rel=1e-5), (task, name)
