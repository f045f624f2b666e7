"""``--trackio_args`` without a network: what stands in its database is what stands in the results. `.ci/loggers`."""

from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path
from typing import Any

import pytest

from ..conftest import N
from .conftest import TASKS, TOKEN, figures

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("trackio") is None, reason="pip install trackio"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Trackio's own, which it looks up when it is imported."""
    with pytest.MonkeyPatch.context() as patch:
        made = tmp_path_factory.mktemp("trackio")
        patch.setenv("TRACKIO_DIR", str(made))
        import trackio.utils

        assert made == Path(trackio.utils.TRACKIO_DIR)
        yield made


def test_the_database_holds_the_figures_and_the_samples_of_the_results(logged, folder):
    from trackio.sqlite_storage import SQLiteStorage

    run = logged("--trackio_args", "project=all")
    assert run.said("Logging to Trackio failed") == run.said("Failed to") == []
    (record,) = SQLiteStorage.get_run_records("all")
    values, *_ = SQLiteStorage.get_logs("all", record["name"])
    expected = figures(run.results)
    assert {"audit/auroc,crossfit", "mia_surp_files/auroc,k=0.1", "mia_loss_files/auroc"} <= set(expected)
    for name, value in expected.items():
        assert math.isnan(values[name]) if value is None else values[name] == value, name
    assert {name.partition("/")[0] for name in values if "/" in name} == {*TASKS, "audit"}
    config = json.dumps(SQLiteStorage.get_run_config("all", record["name"]), default=str)
    assert TOKEN not in config
    assert "hf_***" in config

    traces = SQLiteStorage.get_traces("all", record["name"], limit=10_000)
    for task in TASKS:
        of_task = {json.dumps(trace["metadata"]) for trace in traces if trace["metadata"]["task"] == task}
        samples = run.samples[task]
        assert len([trace for trace in traces if trace["metadata"]["task"] == task]) == len(samples) >= 2 * N
        assert {json.loads(row)["doc_id"] for row in of_task} == {sample["doc_id"] for sample in samples}
        logged_scores = {
            (row["doc_id"], row["filter"]): row.get("auroc", [None, None])[1] for row in map(json.loads, of_task)
        }
        assert logged_scores == {
            (sample["doc_id"], sample["filter"]): sample.get("auroc", [None, None])[1] for sample in samples
        }


def test_with_log_text_false_no_text_is_kept(logged, folder, people):
    logged("--trackio_args", "project=no_text", log_text=False)
    files = [path for path in folder.rglob("*") if path.is_file() and "no_text" in str(path)]
    assert any(b"mia_loss_files" in path.read_bytes() for path in files)
    for path in files:
        content = path.read_bytes()
        assert not [text for texts in people for text in texts if text.encode() in content], path
