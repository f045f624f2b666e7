"""One run of ``lm_eval`` by its command line: a group of ours, a swept option, a user's group with figures, samples."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

GROUP = """
group: audit
task: [mia_surp_files, mia_lowercase_files]
aggregate_metric_list:
  - {metric: auroc, weight_by_size: false}
  - {metric: tpr_at_1pct_fpr}
metadata: {version: 2.0}
"""
TASKS = [
    *(f"mia_{attack}_files" for attack in ("strongest", "loss", "zlib", "mink", "minkpp", "ref", "recall")),
    *("mia_surp_files", "mia_lowercase_files"),
]
"""Of these `ref` has no figure."""
TOKEN = "hf_ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@pytest.fixture
def logged(command: Callable[..., Any], tiny: Any, files: dict[str, Any], tmp_path: Path, said: Any) -> Any:
    """``logged("--wandb_args", "project=p")``: the results as written, the samples by task, and the log of the run."""

    def logged(*flags: str, model: str = "", **options: Any) -> SimpleNamespace:
        (tmp_path / "audit").mkdir()
        (tmp_path / "audit" / "audit.yaml").write_text(GROUP)
        out = tmp_path / "out"
        metadata = {"mia": files | {"k": [0.1, 0.3]} | options, "note": TOKEN}
        command(
            *("--tasks", "mia_files,audit", "--model", "hf", "--model_args", f"pretrained={model or tiny('gpt2')}"),
            *("--device", "cpu", "--batch_size", "8", "--metadata", json.dumps(metadata), "--log_samples"),
            *("--include_path", tmp_path / "audit", "--output_path", out, *flags),
        )
        (written,) = out.rglob("results_*.json")
        samples = {path.name: path.read_text().splitlines() for path in out.rglob("samples_*.jsonl")}
        return SimpleNamespace(
            folder=written.parent,
            results=json.loads(written.read_text()),
            samples={
                task: [json.loads(line) for name, lines in samples.items() if f"_{task}_" in name for line in lines]
                for task in TASKS
            },
            said=said,
        )

    return logged


def figures(results: dict[str, Any]) -> dict[str, float | None]:
    """What a run's results hold of numbers, named as the loggers do; None where there is no figure."""
    return {
        f"{name}/{key.removesuffix(',none')}": value
        for name, row in results["results"].items()
        for key, value in row.items()
        if value is None or isinstance(value, int | float)
    }
