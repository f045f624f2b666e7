"""A real Ray of two nodes: one dies in mid-training, and the driver is stopped. `.ci/ray` runs these."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from made_runs import STUDENTS, checkpoint, figures, interrupted, recipe_of, start, wait_for

from midistill_tasks import __version__
from midistill_tasks.cli.main import main
from midistill_tasks.errors import InputError
from midistill_tasks.study.executors import child
from midistill_tasks.study.executors.drive import drive
from midistill_tasks.study.executors.meeting import meet
from midistill_tasks.study.executors.ray import Ray
from midistill_tasks.study.executors.units import units_of
from midistill_tasks.study.run import run_study
from midistill_tasks.study.work import Work


def test_a_node_says_what_is_wrong_with_it(tmp_path, monkeypatch):
    monkeypatch.setattr(child, "VISIBLE", 0.0)
    (tmp_path / "driver").write_text("token")
    assert "install one version" in meet(str(tmp_path), ".", "a", "token", "0.0.1")
    assert "there is no folder" in meet(str(tmp_path / "no"), ".", "a", "token", __version__)
    assert "it does not see what is written" in meet(str(tmp_path), ".", "a", "another", __version__)
    assert "it does not see what is written" in meet(str(tmp_path), "elsewhere", "a", "token", __version__)
    assert meet(str(tmp_path), ".", "a", "token", __version__) == ""
    assert (tmp_path / "a").read_text() == "token"


@pytest.fixture(scope="module")
def cluster():
    """Two nodes with room for one part each."""
    ray = pytest.importorskip("ray", reason="pip install midistill[ray]")
    from ray.cluster_utils import Cluster

    os.environ.update({"RAY_worker_niceness": "0"})  # not behind all else that this machine does
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    made.second = made.add_node(num_cpus=1)
    made.wait_for_nodes()
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.fixture(scope="module")
def study(studies):
    return studies(50, 36, **STUDENTS)


@pytest.mark.slow
def test_a_node_that_dies_in_mid_training_and_a_driver_that_is_stopped_change_no_figure(cluster, study, tmp_path):
    alone, ours = study(), study()
    assert run_study(alone).failed == {}
    command = (recipe_of(ours, tmp_path / "s.yaml"), "--executor", "ray")
    first = start(*command, RAY_ADDRESS=cluster.address)
    wait_for(first, checkpoint(ours, "vanilla/0", 5))
    said = interrupted(first)
    assert f"to go on: midistill study {command[0]} --executor ray" in said
    assert "stopped at step" in Path(ours.output, "logs/vanilla/0/output.log").read_text()

    second = start(*command, RAY_ADDRESS=cluster.address)
    victim = _in_training_on(cluster.second, ours, second)
    cluster.remove_node(cluster.second, allow_graceful=False)
    cluster.second = cluster.add_node(num_cpus=1)
    said = second.communicate(timeout=500)[0]
    assert second.returncode == 0, said
    assert re.search(rf"^{victim}: runs on .*, begun again$", said, re.MULTILINE), said
    assert figures(ours) == figures(alone)


def _in_training_on(node, study, driver):
    """A student that a process of this node has trained for some steps: the head must live, it is the cluster."""
    (raylet,) = node.all_processes["raylet"]
    while True:
        assert driver.poll() is None, driver.communicate()[0]
        for name in ("vanilla/0", "kept/0"):
            pid = Path(study.output, "logs", name, "node")
            last = pid.read_text().rpartition(" ")[2] if pid.is_file() else ""
            with contextlib.suppress(psutil.NoSuchProcess):
                above = psutil.Process(int(last)).parents() if last else []
                whole = Path(study.output, "students", name).glob("checkpoints/*/midistill_whole.json")
                if raylet.process.pid in [process.pid for process in above] and list(whole):
                    return name
        time.sleep(0.05)


@pytest.mark.slow
def test_what_no_node_has_is_said_before_anything_starts(cluster, study, tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    ours = study(resources={"cpus": 64})
    executor = Ray()
    with pytest.raises(InputError, match=r"no node of the cluster has what teacher:teacher takes \(64 CPUs, 0 GPUs"):
        run_study(ours, elsewhere=lambda work, left: drive(executor, work, left, ["s.yaml"]))
    work = Work(study())
    units = units_of(work, work.parts, ["s.yaml"])
    Path(work.study.output).mkdir(exist_ok=True)
    executor.check(Path(work.study.output), work.study.resources, units)
    assert len(list(Path(work.study.output, "logs/nodes").iterdir())) == 3  # the driver's and one a node


@pytest.mark.slow
def test_shards_of_a_split_are_scored_on_both_nodes(cluster, score_command, tmp_path):
    """Each worker loads the model once and takes the next shard; what is there is not made again."""
    command = [sys.executable, "-m", "midistill_tasks.cli", *score_command(shards=6), "--executor", "ray"]
    env = {**os.environ, "RAY_ADDRESS": cluster.address}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    for number in range(1, 7):
        assert f"shard {number}/6: done" in done.stderr
    for worker in ("worker-1", "worker-2"):
        assert f"{worker}: runs on " in done.stderr
    assert len(list((tmp_path / "stats").rglob("*.parquet"))) == 6
    assert main(["attack", str(tmp_path / "stats")]) == 0
