"""All that touches the harness: its tasks, its metrics, and how it finds ours."""

from __future__ import annotations

from midistill_tasks.harness.hooks.ending import add_last_words
from midistill_tasks.harness.hooks.registries import add_metrics, add_models
from midistill_tasks.harness.hooks.tasks import add_tasks, yaml_folder
from midistill_tasks.scoring.models import extend_vllm

__all__ = ["add_last_words", "add_metrics", "add_models", "add_tasks", "extend_vllm", "yaml_folder"]
