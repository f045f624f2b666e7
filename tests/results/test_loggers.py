"""What the harness's loggers are handed; `tests/harness/loggers` has whole runs with the real ones."""

from __future__ import annotations

import math
from typing import Any

from midistill_tasks.harness.hooks.requests import answer_requests
from midistill_tasks.results.loggers import loggable

RESULTS: dict[str, Any] = {
    "results": {
        "mia_bios": {"alias": "mia_bios"},
        "audit": {"alias": "audit", "auroc,none": 0.6},
        "mia_loss_bios": {"auroc,none": 0.6, "auroc_stderr,none": math.nan, "auroc_stderr_stderr,none": "N/A"},
    },
    "groups": {"audit": {"alias": "audit", "auroc,none": 0.6}},
    "group_subtasks": {"mia_bios": ["mia_loss_bios"], "audit": ["mia_loss_bios"]},
    "versions": {"mia_bios": "1.0", "audit": "1.0", "mia_loss_bios": 1.0},
    "n-shot": {"mia_loss_bios": 0},
    "config": {"model_args": {"token": "hf_ABCDEFGHIJKLMNOPQRSTUVWXYZ"}},
}


def test_groups_without_figures_tokens_and_errors_of_errors_are_not_logged():
    made = loggable(RESULTS)
    assert set(made["results"]) == {"audit", "mia_loss_bios"}
    assert set(made["results"]["mia_loss_bios"]) == {"auroc,none", "auroc_stderr,none"}
    assert math.isnan(
        made["results"]["mia_loss_bios"]["auroc_stderr,none"]
    )  # which the loggers can, and None they cannot
    assert made["config"] == {"model_args": {"token": "hf_***"}}
    assert RESULTS["config"]["model_args"]["token"] != "hf_***"
    assert "mia_bios" in RESULTS["results"]


def test_the_versions_in_the_table_of_the_wandb_logger_are_of_one_type():
    from lm_eval.loggers import WandbLogger

    answer_requests()
    logger = WandbLogger.__new__(WandbLogger)
    logger.post_init(RESULTS)
    rows = set(logger.task_names) - set(logger.group_names)
    assert {type(RESULTS["versions"][name]) for name in rows} == {float}


def test_the_loggers_are_changed_once():
    from lm_eval.loggers import TrackioLogger, WandbLogger

    answer_requests()
    before = WandbLogger.post_init, TrackioLogger.post_init
    answer_requests()
    assert (WandbLogger.post_init, TrackioLogger.post_init) == before
