"""``--wandb_args`` without a network: what stands in the run's file is what stands in the results. `.ci/loggers`."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..conftest import N
from .conftest import TASKS, TOKEN, figures

wandb = pytest.importorskip("wandb", reason="pip install wandb")
pytestmark = pytest.mark.slow

BLOCK, HEADER = 32768, struct.Struct("<IHB")
WHOLE, LAST = 1, 4


def records(path: Path) -> Iterator[Any]:
    """Of a run's file: LevelDB's log format behind seven bytes. wandb 0.31 itself reads it in Go alone."""
    from wandb.proto import wandb_internal_pb2

    content, at, record = path.read_bytes(), 7, b""
    assert content.startswith(b":W&B")
    while at < len(content):
        if (left := BLOCK - at % BLOCK) < HEADER.size:
            at += left
            continue
        _, length, kind = HEADER.unpack_from(content, at)
        at += HEADER.size + length
        record += content[at - length : at]
        if kind in (WHOLE, LAST):
            made = wandb_internal_pb2.Record()
            made.ParseFromString(record)
            yield made
            record = b""


class Sent:
    """What would be uploaded.

    Attributes:
        values: history, and summary where the history has none.
        config: of the run, as JSON.
        tables: name → columns and rows.
        artifacts: their types by name.
    """

    def __init__(self, folder: Path) -> None:
        (path,) = folder.rglob("run-*.wandb")
        self.values: dict[str, Any] = {}
        self.config, self.artifacts = "", {}
        for record in records(path):
            kind = record.WhichOneof("record_type")
            if kind in ("history", "summary"):
                items = record.history.item if kind == "history" else record.summary.update
                for item in items:
                    key = "/".join(item.nested_key) or item.key
                    if kind == "history" or key not in self.values:
                        self.values[key] = json.loads(item.value_json)
            elif kind == "config":
                self.config += "".join(item.value_json for item in record.config.update)
            elif kind == "artifact":
                self.artifacts[record.artifact.name] = record.artifact.type
        self.tables = {
            key.removesuffix("/path"): json.loads((path.parent / "files" / value).read_text())
            for key, value in self.values.items()
            if key.endswith("/path")
        }


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The flags for a run without a network, and what came of it."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    return ["--wandb_args", f"project=midistill,dir={tmp_path}"], lambda: Sent(tmp_path / "wandb")


def test_the_runs_file_holds_the_figures_and_the_samples_of_the_results(logged, sent):
    flags, read = sent
    run = logged(*flags)
    assert run.said("Logging to W&B failed") == []
    found, expected = read(), figures(run.results)
    assert {"audit/auroc,crossfit", "mia_surp_files/auroc,k=0.1", "mia_loss_files/auroc"} <= set(expected)
    assert None in expected.values()  # 24 non-members have no TPR at 1 %
    for name, value in expected.items():
        logged_value = found.values[name]
        assert math.isnan(logged_value) if value is None else logged_value == value, name
    assert not [name for name in found.values if "_stderr_stderr" in name]
    assert TOKEN not in found.config + json.dumps(found.values)
    assert "hf_***" in found.config

    rows = found.tables["evaluation/eval_results"]["data"]
    assert {row[0] for row in rows} == set(TASKS)
    assert ["audit", "auroc"] in [[row[0], row[4]] for row in found.tables["evaluation/group_eval_results"]["data"]]
    values = {(row[0], row[2], row[4]): row[5] for row in rows}
    assert float(values["mia_loss_files", "none", "auroc"]) == expected["mia_loss_files/auroc"]

    assert found.artifacts.items() >= {"results": "eval_results", **dict.fromkeys(TASKS, "samples_by_task")}.items()
    for task in TASKS:
        table = found.tables[f"{task}_eval_results"]
        rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
        assert len(rows) == len(run.samples[task]) >= 2 * N
        assert [row["labels"] for row in rows] == [int(sample["target"]) for sample in run.samples[task]]
        for row, sample in zip(rows, run.samples[task], strict=True):
            if task == "mia_ref_files":
                assert "auroc" not in row
            else:
                assert row["auroc"] == pytest.approx(sample["auroc"], nan_ok=True)


def test_with_log_text_false_no_text_leaves(logged, sent, people, tmp_path):
    flags, read = sent
    logged(*flags, log_text=False)
    assert read().tables["mia_loss_files_eval_results"]["data"]
    files = [path for path in (tmp_path / "wandb").rglob("*") if path.is_file()]
    assert len(files) > len(TASKS)
    for path in files:
        content = path.read_bytes()
        assert not [text for texts in people for text in texts if text.encode() in content], path
