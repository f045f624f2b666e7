"""Models that the harness does not have, by their name for ``--model``."""

from __future__ import annotations

LMS = {"hf-mlm": "midistill_tasks.scoring.backends.hf.mlm:HFMaskedLM"}
"""Name → class; the harness imports its module when it is asked for."""


def add_to_harness() -> None:
    """Makes the harness know them; may be called again."""
    import lm_eval.models  # noqa: F401  which registers the harness's own
    from lm_eval.api.registry import model_registry

    for name, place in LMS.items():
        if name not in model_registry:
            model_registry.register(name, target=place)
