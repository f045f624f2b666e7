"""`torchrun` on a study's parts, as docs/study.md has it: both processes train and evaluate, and the result is one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from midistill_tasks.recipes.file import dump_recipe
from midistill_tasks.study.run import run_study

LAUNCHER = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")


@pytest.mark.slow
def test_parts_by_two_processes_make_a_whole_study(studies, tmp_path):
    study = studies(20, 20)(arms={"vanilla": {}})
    path = tmp_path / "study.yaml"
    path.write_text(dump_recipe(study))
    for part in ("teacher", "vanilla/0"):
        subprocess.run(
            [*LAUNCHER, "-m", "midistill_tasks.cli", "study", str(path), "--only", part],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            check=True,
            timeout=300,
        )
    for name in ("teacher", "vanilla/0"):
        (samples,) = (Path(study.output) / "results" / name).rglob("samples_mia_loss_files_*.jsonl")
        lines = samples.read_text().splitlines()
        assert len(lines) == len(set(lines)) == 38  # two are the harness's shots
    outcome = run_study(study)  # nothing is left to do but the page
    assert not outcome.failed
    assert "vanilla" in outcome.file.read_text()
