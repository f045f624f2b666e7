"""Where the figures come from: how the harness was called, on which data, with which versions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from midistill_tasks.report.findings import Findings
from midistill_tasks.report.page import Section
from midistill_tasks.report.sections import section
from midistill_tasks.results.run import Run
from midistill_tasks.results.table import Cell, Table


@section(after="ensembles", per="page")
def provenance(findings: Findings) -> Section:
    """Runs, tasks, versions."""
    named = [(entry.name, run) for entry in findings.group.entries for run in entry.runs]
    return Section(
        "Where these figures come from",
        folded=tuple((table, "") for table in (_runs(named), _tasks(named), _utilities(named), _versions(named))),
    )


def _runs(named: list[tuple[str, Run]]) -> Table:
    columns = (
        "model",
        "evaluated",
        "date",
        "parameters",
        "model_args",
        "batch size",
        "device",
        "seeds",
        "results file",
    )
    rows: list[tuple[Cell, ...]] = []
    for name, run in named:
        config = run.config
        seeds = ", ".join(f"{key.removesuffix('_seed')} {config[key]}" for key in config if key.endswith("_seed"))
        size = config.get("model_num_parameters")
        parameters = f"{size:,}" if isinstance(size, int) else "–"
        called = (_json(config.get("model_args")), str(config.get("batch_size")), str(config.get("device")))
        rows.append((name, run.model, run.date, parameters, *called, seeds, str(run.path)))
    return Table("runs", "Runs", columns, tuple(rows))


def _tasks(named: list[tuple[str, Run]]) -> Table:
    columns = ("model", "task", "version", "members", "non-members", "left out", "options", "data SHA-256")
    rows: list[tuple[Cell, ...]] = []
    for name, run in named:
        for result in run.tasks.values():
            counts = {key: count for key, count in result.metadata["counts"].items() if count}
            scored = (counts.pop("members", 0), counts.pop("nonmembers", 0))
            left_out = ", ".join(f"{key} {count}" for key, count in counts.items()) or "none"
            options = {key: value for key, value in result.metadata["options"].items() if value is not None}
            hashed = str(result.metadata["data_sha256"])
            rows.append((name, result.name, result.version, *scored, left_out, _json(options), hashed))
    return Table("tasks", "Tasks", columns, tuple(rows))


def _utilities(named: list[tuple[str, Run]]) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (name, task, metric, value, stderr, "higher" if higher_is_better else "lower")
        for name, run in named
        for task, metric, value, stderr, higher_is_better in run.utility.values()
    ]
    return Table(
        "utility", "Other tasks of these runs", ("model", "task", "metric", "value", "stderr", "better"), tuple(rows)
    )


def _versions(named: list[tuple[str, Run]]) -> Table:
    packages = dict.fromkeys(package for _, run in named for package in run.versions)
    rows: list[tuple[Cell, ...]] = [
        (name, *(run.versions.get(package, "–") for package in packages)) for name, run in named
    ]
    return Table("versions", "Versions", ("model", *packages), tuple(rows))


def _json(value: Mapping[str, Any] | Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
