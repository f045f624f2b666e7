"""Several processes on CPUs: the harness shares a run's texts out among GPUs only."""

from __future__ import annotations

import functools
from typing import Any


def share_on_cpus(kind: Any) -> None:
    """Lets the processes of a ``torchrun`` without GPUs share the documents of all tasks, as those with GPUs do.

    The harness's class opens the process group there, too, but leaves each process alone with the whole run, and each
    writes the results.

    Args:
        kind: ``HFLM`` of the harness; may be given again.
    """
    original = kind.__init__
    if getattr(original, "shares", False):
        return

    @functools.wraps(original)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        accelerator = getattr(self, "accelerator", None)
        if accelerator is None or accelerator.device.type != "cpu" or self.world_size > 1:
            return
        self._rank, self._world_size = accelerator.process_index, accelerator.num_processes

    init.shares = True  # type: ignore[attr-defined]
    kind.__init__ = init
