"""Models that the harness does not have, by their name for ``--model``."""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any

LMS = {
    "hf-mlm": "midistill_tasks.scoring.backends.hf.mlm:HFMaskedLM",
    "llamacpp": "midistill_tasks.scoring.backends.llamacpp:LlamaCppLM",
}
"""Name → class; the harness imports its module when it is asked for."""


VLLM_EXTENSION = "midistill_tasks.scoring.backends.vllm_worker.Moments"
"""What vLLM's workers are given; idle until a run asks for moments."""


def extend_vllm(module: ModuleType) -> None:
    """Has the harness's vLLM models load `VLLM_EXTENSION`, unless their arguments name another extension."""
    original = module.VLLM.__init__

    @functools.wraps(original)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("worker_extension_cls", VLLM_EXTENSION)
        original(self, *args, **kwargs)

    module.VLLM.__init__ = init


def add_to_harness() -> None:
    """Makes the harness know them; may be called again."""
    import lm_eval.models  # noqa: F401  which registers the harness's own
    from lm_eval.api.registry import model_registry

    for name, place in LMS.items():
        if name not in model_registry:
            model_registry.register(name, target=place)
