"""Whole runs of the harness on a tiny model and texts made here, in this process, without its own 14,000 YAML files."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import pytest

N = 24
"""Texts on each side."""


@pytest.fixture(autouse=True)
def _on_its_own(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """An own cache of data sets, nothing said yet, and no seconds spent on describing the machine in every result."""
    from midistill_tasks.errors import warn_once

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))
    monkeypatch.setattr("lm_eval.evaluator.add_env_info", lambda results: None)
    warn_once.cache_clear()


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[str]]:
    """``said("recall")``: what the log of the run said with that in it."""
    monkeypatch.setattr(logging.getLogger("lm_eval"), "propagate", True)
    caplog.set_level(logging.INFO, "lm_eval")
    caplog.set_level(logging.INFO, "midistill_tasks")
    return lambda part: [record.getMessage() for record in caplog.records if part in record.getMessage()]


@pytest.fixture(scope="session")
def lm(tiny: Callable[..., Path], scoring: SimpleNamespace) -> Any:
    """The model of these tests."""
    return scoring.load(tiny("gpt2"))


@pytest.fixture(scope="session")
def people() -> tuple[list[str], list[str]]:
    """Texts of members and of non-members, of one distribution."""
    from midistill_tasks.splits.bios import biographies

    made = [" ".join(text.split()[: 12 + index % 9]) for index, text in enumerate(biographies(2 * N + 2, seed=11))]
    return made[:N], made[N:]  # two non-members more, for the shots


@pytest.fixture(scope="session")
def files(people: tuple[list[str], list[str]], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Options that give these texts to the split ``files``."""
    folder = tmp_path_factory.mktemp("files")
    options: dict[str, Any] = {"shots": 2}
    for name, texts in zip(("members", "nonmembers"), people, strict=True):
        options[name] = str(write_rows(folder / f"{name}.jsonl", [{"text": text} for text in texts]))
    return options


@pytest.fixture(scope="session")
def labelled(people: tuple[list[str], list[str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same texts in one file with the columns ``sentence`` and ``seen``."""
    rows = [{"sentence": text, "seen": 1 - side} for side, texts in enumerate(people) for text in texts]
    return write_rows(tmp_path_factory.mktemp("labelled") / "rows.jsonl", rows)


def write_rows(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def manager_of() -> Callable[..., Any]:
    """``manager_of({"mia": {…}}, folder)``: a `TaskManager` with that ``--metadata`` and ``--include_path``."""
    from lm_eval.tasks import TaskManager

    from midistill_tasks.harness import yaml_folder

    def manager_of(metadata: dict[str, Any] | None = None, *folders: Path) -> Any:
        paths = [str(yaml_folder()), *map(str, folders)]
        return TaskManager(include_defaults=False, include_path=paths, metadata=metadata)

    return manager_of


@pytest.fixture
def run(lm: Any, files: dict[str, Any], manager_of: Callable[..., Any]) -> Callable[..., dict[str, Any]]:
    """``run("mia_loss_files", {"k": 0.3}, limit=4)``: `lm_eval.simple_evaluate` on the texts of `files`."""
    import lm_eval

    def run(tasks: Any, mia: dict[str, Any] | None = None, **flags: Any) -> dict[str, Any]:
        tasks = tasks.split(",") if isinstance(tasks, str) else tasks
        flags = {"model": lm, "bootstrap_iters": 0, **flags}
        metadata = flags.pop("metadata", {"mia": files | (mia or {})})
        manager = manager_of(metadata, *flags.pop("folders", ()))
        return lm_eval.simple_evaluate(tasks=tasks, task_manager=manager, **flags)

    return run


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """``command("--tasks", …)``: what the command ``lm_eval`` prints, as ``.out`` and ``.err``."""
    import lm_eval.tasks
    from lm_eval.__main__ import cli_evaluate

    from midistill_tasks.harness import yaml_folder

    class OursAlone(lm_eval.tasks.TaskManager):
        def __init__(self, include_path: str | None = None, metadata: Any = None) -> None:
            paths = [str(yaml_folder()), *([include_path] if include_path else [])]
            super().__init__(include_path=paths, include_defaults=False, metadata=metadata)

    def command(*arguments: Any) -> Any:
        monkeypatch.setattr("lm_eval.__main__.setup_logging", lambda: None)  # it would replace pytest's
        monkeypatch.setattr(lm_eval.tasks, "TaskManager", OursAlone)
        monkeypatch.setattr("sys.argv", ["lm_eval", *map(str, arguments)])
        cli_evaluate()
        return capsys.readouterr()

    return command


@pytest.fixture
def no_forward(lm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test fails where the model is run."""

    def forward(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a forward was spent")

    monkeypatch.setattr(lm.model, "forward", forward)
