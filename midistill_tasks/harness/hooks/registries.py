"""What we enter into the harness's registries: metrics, and the architecture of our students."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any


def add_metrics(metrics: ModuleType) -> None:
    """Registers our metrics and aggregations, so that a plain YAML task finds them by name."""
    from midistill_tasks.harness.metrics import register

    register()


def add_models(huggingface: Any) -> None:
    """Registers the architecture of our students, so that ``--model hf`` loads them, and shares texts on CPUs, too; a
    folder's name is not asked for at the hub, where it may be another's model."""
    from midistill_tasks.models import architectures
    from midistill_tasks.scoring.backends.hf.ranks import share_on_cpus

    architectures.register()
    if kind := getattr(huggingface, "HFLM", None):
        share_on_cpus(kind)
    api = getattr(huggingface, "HfApi", None)
    if api is None:
        return

    class Api(api):  # type: ignore[misc, valid-type]
        def model_info(self, repo_id: str, *args: Any, **kwargs: Any) -> Any:
            if Path(repo_id).is_dir():
                raise FileNotFoundError(f"{repo_id} is a folder")  # which the harness takes for "no commit"
            return super().model_info(repo_id, *args, **kwargs)

    huggingface.HfApi = Api
