"""How far a training is: a bar on a terminal, elsewhere a line a minute; the log lines go to the log."""

from __future__ import annotations

import logging
import sys
import time
from datetime import timedelta
from typing import Any

from tqdm import tqdm
from transformers import Trainer, TrainerCallback
from transformers.trainer_callback import PrinterCallback, ProgressCallback

logger = logging.getLogger(__name__)

EVERY = 60.0
"""Seconds between two lines."""


class Progress(TrainerCallback):  # type: ignore[misc]
    """In place of the Trainer's own, which prints its log lines as dicts on stdout."""

    def __init__(self, what: str) -> None:
        self.what = what

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Draws the bar in the first process, where a resumed run stands."""
        silent = not state.is_world_process_zero
        self.bar = tqdm(total=state.max_steps, initial=state.global_step, desc=self.what, unit="step", disable=silent)
        self.began = self.said = time.monotonic()
        self.first = state.global_step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """One step on; a line where it is time for one and nobody sees a bar."""
        self.bar.update()
        now, done = time.monotonic(), state.global_step - self.first
        if state.is_world_process_zero and now - self.said >= EVERY and not sys.stderr.isatty():
            left = timedelta(seconds=round((now - self.began) / done * (state.max_steps - state.global_step)))
            logger.info("%s: step %d of %d, %s left", self.what, state.global_step, state.max_steps, left)
            self.said = now

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """The loss beside the bar, the whole line to the log."""
        if state.is_world_process_zero and logs:
            logger.debug("%s, step %d: %s", self.what, state.global_step, logs)
            if "loss" in logs:
                self.bar.set_postfix(loss=f"{float(logs['loss']):.4g}", refresh=False)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Leaves the bar as it stands."""
        self.bar.close()


def show(trainer: Trainer, what: str) -> None:
    """Has a Trainer show its progress in this way."""
    for printing in (ProgressCallback, PrinterCallback):
        trainer.remove_callback(printing)
    trainer.add_callback(Progress(what))
