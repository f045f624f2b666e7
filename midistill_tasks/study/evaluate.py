"""One run of the harness a model: attacks and utility together, written as `lm_eval --log_samples` writes them."""

from __future__ import annotations

import json
import logging
import math
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from midistill_tasks.distill.data import text_id
from midistill_tasks.errors import InputError, nearest
from midistill_tasks.files import whole_folder
from midistill_tasks.harness import yaml_folder
from midistill_tasks.locks import held_beside
from midistill_tasks.models.loading import split_args
from midistill_tasks.processes import by_first, use_cpu
from midistill_tasks.scoring.run import references_kept
from midistill_tasks.study.recipe import Study
from midistill_tasks.study.texts import logs_texts, study_data, study_options


@contextmanager
def _warnings_only(name: str) -> Iterator[None]:
    """Keeps a package's steps out of the log: of many models they hide what the study itself says."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextmanager
def _git_is_quiet() -> Iterator[None]:
    """The harness asks git for the commit of the folder that it runs in; git says "fatal" where that has none."""
    from lm_eval import evaluator

    asked = evaluator.get_git_commit_hash
    git = shutil.which("git")
    if git and subprocess.run([git, "describe", "--always"], capture_output=True).returncode:  # noqa: S603
        evaluator.get_git_commit_hash = lambda: None
    try:
        yield
    finally:
        evaluator.get_git_commit_hash = asked


@cache
def _machine() -> str:
    from torch.utils import collect_env

    return str(collect_env.get_pretty_env_info())  # type: ignore[no-untyped-call]


@contextmanager
def _described_once() -> Iterator[None]:
    """The harness describes the machine in every result, for which it runs a dozen programs: of one study, once."""
    from torch.utils import collect_env

    machine, asked = _machine(), collect_env.get_pretty_env_info
    collect_env.get_pretty_env_info = lambda: machine
    try:
        yield
    finally:
        collect_env.get_pretty_env_info = asked


class Harness:
    """Evaluates the models of a study with one index of tasks."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self.split = study_data(study).split
        self._references: dict[Any, Any] = {}

    @property
    def heldout(self) -> str:
        """The task of the perplexity."""
        return f"heldout_{self.split}"

    @property
    def tasks(self) -> list[str]:
        """What every model is evaluated on."""
        attacks = [f"mia_{attack}_{self.split}" for attack in self.study.evaluate.chosen]
        return [*attacks, self.heldout, *self.study.evaluate.tasks]

    @cached_property
    def manager(self) -> Any:
        """The harness's own 14,000 files are indexed only where the study asks for one of their tasks."""
        return _manager(study_options(self.study), bool(self.study.evaluate.tasks))

    def _loaded(self) -> list[Any]:
        """`tasks`, as `simple_evaluate` takes them.

        The held-out task refuses ``log_text: false``, since the harness logs its texts: here it may have them, for they
        are taken out of its samples (`_without_texts`)."""
        if logs_texts(self.study):
            return list(self.tasks)
        manager = _manager(study_options(self.study) | {"log_text": True}, False)
        return [*(name for name in self.tasks if name != self.heldout), *manager.load([self.heldout])["tasks"].values()]

    def check_tasks(self) -> None:
        """Raises InputError for a further task that the harness does not know."""
        if not self.study.evaluate.tasks:
            return
        known = self.manager.all_tasks
        for task in self.study.evaluate.tasks:
            if task not in known:
                raise InputError(
                    f"evaluate.tasks: the harness knows no task '{task}'{nearest(task, known)}; "
                    "`lm_eval ls tasks` lists them"
                )

    def evaluate(self, model: str, folder: Path, revision: str | None = None) -> None:
        """Writes results and samples of `model` (`split_args`) below `folder`, which exists only once they are whole.

        Raises:
            InputError: if no attack gives a score, they cannot be written, or another process is about to.
        """
        with by_first(lambda: held_beside(folder, "output")):
            self._evaluate(model, folder, revision)

    def _evaluate(self, model: str, folder: Path, revision: str | None) -> None:
        from lm_eval import simple_evaluate
        from lm_eval.loggers import EvaluationTracker

        from midistill_tasks.models.architectures import register
        from midistill_tasks.scoring.models import add_to_harness

        register()
        add_to_harness()
        settings = self.study.evaluate
        name, args = split_args(model, "pretrained")
        tracker = EvaluationTracker()
        with _warnings_only("lm_eval"), _git_is_quiet(), _described_once(), references_kept(self._references):
            results = simple_evaluate(
                model=settings.backend,
                model_args={"pretrained": name, "dtype": settings.dtype, **settings.model_args, **args}
                | ({} if revision is None else {"revision": revision}),
                tasks=self._loaded(),
                batch_size=settings.batch_size,
                device=settings.device or ("cpu" if use_cpu() else None),  # the harness would look for CUDA
                task_manager=self.manager,
                evaluation_tracker=tracker,
                log_samples=True,
            )
        if results is None:  # another process of this run writes them
            return
        areas = [row.get("auroc,none", math.nan) for task, row in results["results"].items() if task.startswith("mia_")]
        if not any(map(math.isfinite, areas)):
            raise InputError(f"{model}: no attack gave a score; the log above says why, such as outputs that are NaN")
        samples = results.pop("samples")
        if not logs_texts(self.study):
            samples[self.heldout] = [_without_texts(row) for row in samples[self.heldout]]
        with whole_folder(folder, "output") as unfinished:
            tracker.output_path = str(unfinished)
            tracker.save_results_aggregated(results=results, samples=samples)
            for task in results["configs"]:
                tracker.save_results_samples(task_name=task, samples=samples[task])
            if not _is_whole(unfinished, {task: len(samples[task]) for task in results["configs"]}):
                raise InputError(
                    f"output: {folder}: the harness could not write its results: free some space, run it again"
                )


def _manager(options: Mapping[str, Any], with_harness_s_own: bool) -> Any:
    from lm_eval.tasks import TaskManager

    return TaskManager(
        include_defaults=with_harness_s_own, include_path=str(yaml_folder()), metadata={"mia": dict(options)}
    )


def _without_texts(row: Mapping[str, Any]) -> dict[str, Any]:
    """A sample of the held-out task with the text's id in each place where the text stood."""
    name = text_id(row["doc"]["text"])
    return {**row, "doc": {"id": name}, "target": name, "arguments": [(name,)]}


def _is_whole(folder: Path, samples: Mapping[str, int]) -> bool:
    """Whether all that the tracker was to write is there: it turns its errors into warnings."""
    try:
        (results,) = folder.rglob("results_*.json")
        json.loads(results.read_text(encoding="utf-8"))
        for task, count in samples.items():
            (path,) = results.parent.glob(f"samples_{task}_2*.jsonl")
            *lines, rest = path.read_text(encoding="utf-8").split("\n")
            if rest or len(lines) != count:
                return False
    except ValueError:
        return False
    return True
