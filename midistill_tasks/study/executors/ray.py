"""Units as tasks of a Ray cluster: the one of RAY_ADDRESS, one that runs on this machine, or a new one of it alone."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from midistill_tasks import __version__
from midistill_tasks.errors import InputError
from midistill_tasks.files import write_atomically
from midistill_tasks.study.executors import Executor, child, needs_package
from midistill_tasks.study.executors.meeting import meet
from midistill_tasks.study.executors.resources import GB, Need, Resources
from midistill_tasks.study.executors.unit import Unit

RETRIES = 3
"""How often a unit begins again whose worker or node died."""
_WAIT = 1.0
_NODES = "logs/nodes"
_ANSWER = 120.0


class Ray(Executor):
    """One task a unit; Ray finds it a node that has what it takes."""

    def __init__(self) -> None:
        try:
            import ray
        except ImportError as error:
            raise needs_package("ray") from error
        self.ray: Any = ray
        self.running: dict[Any, Unit] = {}
        self.gpus = 0.0

    def places(self) -> int:
        """A GPU each, or on a cluster without any a CPU."""
        self._connect()
        there = self.ray.cluster_resources()
        return max(1, int(there.get("GPU", 0.0) or there.get("CPU", 1.0)))

    def check(self, folder: Path, resources: Resources, units: Sequence[Unit]) -> None:
        """Each node reads what this one wrote in the folder, and writes; some node has what each unit takes.

        Raises:
            InputError: there is no cluster, or one of these does not hold.
        """
        self._connect()
        nodes = [node for node in self.ray.nodes() if node["Alive"]]
        self.gpus = max(node["Resources"].get("GPU", 0.0) for node in nodes)
        for unit in units:
            self._check_room(unit, nodes)
        self._check_folder(folder, nodes)

    def start(self, units: Sequence[Unit]) -> None:
        """See `Executor`."""
        task = self.ray.remote(max_retries=RETRIES)(child.run)
        for unit in units:
            takes, env = self._takes(unit.need), {**_settings(), **child.threads(unit.need.cpus or 1)}
            task_of_unit = task.options(name=unit.name, **takes)
            self.running[task_of_unit.remote(unit.arguments, unit.logs, os.getcwd(), env)] = unit

    def ended(self) -> list[tuple[Unit, str]]:
        """See `Executor`."""
        done, _ = self.ray.wait(list(self.running), num_returns=1, timeout=_WAIT)
        return [(self.running.pop(task), self._how(task)) for task in done]

    def stop(self) -> None:
        """See `Executor`."""
        for task in self.running:
            self.ray.cancel(task)  # as Ctrl-C there: `child.run` then asks the part to stop
        if self.running:
            self.ray.wait(list(self.running), num_returns=len(self.running), timeout=child.GRACE)
        self.running.clear()

    def _connect(self) -> None:
        if self.ray.is_initialized():
            return
        before = signal.getsignal(signal.SIGTERM)
        try:
            self.ray.init(log_to_driver=False, configure_logging=False, include_dashboard=False)
        except (ConnectionError, RuntimeError, ValueError) as error:
            address = os.environ.get("RAY_ADDRESS", "none is set")
            raise InputError(f"--executor ray: no cluster answers (RAY_ADDRESS: {address}): {error}") from error
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)  # Ray's own ends the process without a word of how to go on

    def _how(self, task: Any) -> str:
        try:
            return child.said(self.ray.get(task))
        except self.ray.exceptions.RayError as error:  # its worker died too often, or could not begin
            return " ".join(str(error).split())[:300]

    def _takes(self, need: Need) -> dict[str, Any]:
        gpus = min(1.0, self.gpus) if need.gpus is None else need.gpus
        return {"num_cpus": need.cpus or 1, "num_gpus": gpus, **({"memory": need.memory} if need.memory else {})}

    def _check_room(self, unit: Unit, nodes: Sequence[Mapping[str, Any]]) -> None:
        takes = self._takes(unit.need)
        wanted = {"CPU": takes["num_cpus"], "GPU": takes["num_gpus"], "memory": takes.get("memory", 0)}
        if not any(all(node["Resources"].get(kind, 0) >= of for kind, of in wanted.items()) for node in nodes):
            raise InputError(
                f"resources: no node of the cluster has what {unit.name} takes ({wanted['CPU']} CPUs, "
                f"{wanted['GPU']:g} GPUs, {wanted['memory'] / GB:.1f} GB of memory): give gpus, cpus or memory there"
            )

    def _check_folder(self, output: Path, nodes: Sequence[Mapping[str, Any]]) -> None:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        token = os.urandom(16).hex()
        write_atomically(output / _NODES / "driver", token)
        task = self.ray.remote(num_cpus=0, max_retries=0)(meet)
        answers = {  # by the node's id: several may have one address
            node["NodeID"]: (
                node["NodeManagerAddress"],
                task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(
                    os.getcwd(), str(output / _NODES), node["NodeID"], token, __version__
                ),
            )
            for node in nodes
        }
        for name, (address, answer) in answers.items():
            try:
                wrong = self.ray.get(answer, timeout=_ANSWER)
            except self.ray.exceptions.RayError as error:
                wrong = f"midistill {__version__} does not start there ({' '.join(str(error).split())[-200:]})"
            if not wrong and child.read_soon(output / _NODES / name) != token:
                wrong = f"what it writes in {output} is not seen here: give an output on a folder that all nodes share"
            if wrong:
                raise InputError(f"--executor ray: node {address}: {wrong}")


def _settings() -> dict[str, str]:
    """What of this process's environment decides how the libraries work, without secrets: nodes have their own."""
    names = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE", "TOKENIZERS_PARALLELISM")
    return {name: os.environ[name] for name in names if name in os.environ}
