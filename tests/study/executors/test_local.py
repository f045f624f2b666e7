"""Real studies in several processes give the figures of one after another, bit for bit, however they are stopped."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from made_runs import STUDENTS, checkpoint, figures, interrupted, recipe_of, start, wait_for

from midistill_tasks.study.folders import states_folder
from midistill_tasks.study.run import run_study

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def study(studies):
    return studies(50, 36, **STUDENTS)


@pytest.fixture(scope="module")
def alone(study):
    """One after another, in this process."""
    whole = study()
    assert run_study(whole).failed == {}
    return figures(whole)


def test_two_at_a_time_stopped_and_killed_in_mid_training_go_on_to_the_same_figures(study, alone, tmp_path):
    ours = study()
    command = (recipe_of(ours, tmp_path / "s.yaml"), "--jobs", "2")
    first = start(*command)
    wait_for(first, checkpoint(ours, "vanilla/0", 5))
    said = interrupted(first)
    assert f"to go on: midistill study {command[0]} --jobs 2" in said
    assert "vanilla/0: runs on" in said
    assert "stopped at step" in Path(ours.output, "logs/vanilla/0/output.log").read_text()
    second = start(*command)
    wait_for(second, checkpoint(ours, "kept/0", 5))
    second.kill()
    parts = [path.read_text().rpartition(" ")[2] for path in Path(ours.output, "logs").rglob("node")]
    assert len(parts) >= 2
    until = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in parts):
        assert time.monotonic() < until, "a part lives on"
        time.sleep(0.05)
    third = start(*command)
    said = third.communicate(timeout=400)[0]
    assert third.returncode == 0, said
    assert figures(ours) == alone
    assert not states_folder(ours).exists()  # what the parts read of the teacher goes with the last of them


def test_submitit_s_processes_give_the_same_figures(study, alone, tmp_path):
    pytest.importorskip("submitit")
    from midistill_tasks.study.executors.drive import drive
    from midistill_tasks.study.executors.slurm import Slurm

    ours = study(resources={"slurm": {"partition": "cpu"}})
    recipe = [recipe_of(ours, tmp_path / "s.yaml")]
    outcome = run_study(ours, elsewhere=lambda work, left: drive(Slurm("local"), work, left, recipe))
    assert outcome.failed == {}
    assert figures(ours) == alone
