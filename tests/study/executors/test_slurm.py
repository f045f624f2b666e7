"""What submitit is told, with a made-up sbatch in place of SLURM, which was never met."""

from __future__ import annotations

import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from midistill_tasks.errors import InputError
from midistill_tasks.study.executors import child
from midistill_tasks.study.executors.resources import GB, Need, Resources
from midistill_tasks.study.executors.slurm import Slurm, Task, options
from midistill_tasks.study.executors.units import units_of
from midistill_tasks.study.work import Work

SBATCH = """#!/bin/sh
for script; do :; done
number=$(ls {folder}/job-* 2>/dev/null | wc -l)
cp "$script" {folder}/job-$number
echo "Submitted batch job 10$number"
"""


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Commands of SLURM that keep each script as ``job-N`` and answer with the number 10N."""
    pytest.importorskip("submitit")
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in (("sbatch", SBATCH.format(folder=tmp_path)), ("srun", "#!/bin/sh\n"), ("sacct", "#!/bin/sh\n")):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return tmp_path


def test_arrays_wait_for_what_they_need_and_take_what_the_recipe_says(slurm, studies):
    arms = {"vanilla": {}, "nonorm": {"nonorm": True}, "kept": {"non_vulnerable": True}}
    said = {"gpus": 2, "cpus": 3, "memory": 1.5, "slurm": {"partition": "gpu", "time": 90}}
    work = Work(studies(50, 36)(arms=arms, resources=said))
    units, executor = units_of(work, work.parts, ["s.yaml"]), Slurm()
    executor.check(Path(work.study.output), work.study.resources, units)
    executor.start(units)
    teacher, after_teacher, kept = (
        (slurm / f"job-{number}").read_text().split("\n") for number in range(len(list(slurm.glob("job-*"))))
    )
    for script in (teacher, after_teacher, kept):
        for line in ("partition=gpu", "time=90", "cpus-per-task=3", "gpus-per-node=2", "mem=2GB"):
            assert f"#SBATCH --{line}" in script
    assert not any("dependency" in line for line in teacher)
    assert "#SBATCH --dependency=afterany:100" in after_teacher  # its evaluation, and both students without selection
    assert "#SBATCH --array=0-2%3" in after_teacher
    assert "#SBATCH --dependency=afterany:100:101_0" in kept


def test_what_slurm_cannot_be_told_is_said(slurm, studies):
    with pytest.raises(InputError, match=r"SLURM gives whole GPUs, not 0\.5"):
        options(Resources(), Need(0.5, None, None), [])
    assert options(Resources(), Need(0, None, GB + 1), [])["mem_gb"] == 2
    study = studies(50, 36)(arms={"vanilla": {}}, resources={"slurm": {"cpus-per-task": 4}})
    with pytest.raises(InputError, match="'cpus-per-task' is the study's own: give gpus, cpus or memory"):
        Slurm().check(Path(study.output), study.resources, [])


def test_without_slurm_nothing_is_submitted(studies, monkeypatch, tmp_path):
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="there is no sbatch and srun here: start the study on a login node"):
        Slurm().check(Path("study"), Resources(), [])


def test_a_job_whose_time_is_up_ends_its_part_and_goes_on_in_another(tmp_path, monkeypatch):
    pytest.importorskip("submitit")
    monkeypatch.setattr(child, "COMMAND", (sys.executable, "-c"))
    task = Task(["import time; time.sleep(60)"], Path("logs"), str(tmp_path), 1)
    again = []

    def time_is_up():
        while task.process is None:
            time.sleep(0.01)
        again.append(task.checkpoint())

    thread = threading.Thread(target=time_is_up)
    thread.start()
    assert task() == -signal.SIGTERM
    thread.join()
    assert again[0].function.given == task.given
    assert again[0].function.process is None
