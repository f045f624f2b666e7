"""Ctrl-C and SIGTERM end a training after the step that is under way, with a whole checkpoint of it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch
from transformers import Trainer, TrainerCallback

from midistill_tasks.errors import Stopped
from midistill_tasks.processes import processes

SIGNALS = (signal.SIGINT, signal.SIGTERM)
SAID = b"\nstopping after this step, with a checkpoint of it; a second Ctrl-C ends at once, without one\n"


@contextmanager
def stops_after_a_step(trainer: Trainer) -> Iterator[None]:
    """Within it a first signal lets the step end and a checkpoint be written; a second Ctrl-C does what it did before.

    SIGTERM asks once, however often it comes: `timeout` sends it to a process and to its group, systemd to the parts of
    a study, which asks them, too.

    Raises:
        Stopped: at the end of the block, where a signal had come.
    """
    asked = _Asked()
    trainer.add_callback(asked)
    with _listening(asked):
        yield
    if asked.number:
        state = trainer.state
        raise Stopped(asked.number, f"step {state.global_step} of {state.max_steps}")


class _Asked(TrainerCallback):  # type: ignore[misc]
    """Knows whether a signal came, and ends the training in all processes at one step."""

    def __init__(self) -> None:
        self.number = 0

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Called when weights and optimizer are those of the step; the Trainer then logs, saves and stops."""
        if processes().num_processes > 1:
            heard = torch.tensor(self.number, device=processes().device)
            torch.distributed.all_reduce(heard, torch.distributed.ReduceOp.MAX)
            self.number = int(heard)
        if self.number:
            # A line before the checkpoint, as `MarkWholeCheckpoints` has it: what is resumed begins its means anew.
            control.should_log = control.should_save = control.should_training_stop = True


@contextmanager
def _listening(asked: _Asked) -> Iterator[None]:
    """Python hears signals in its main thread only: elsewhere nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # What is ignored stays so: a shell starts what runs in the background deaf to Ctrl-C.
    known = {number: signal.getsignal(number) for number in SIGNALS}
    before = {number: handler for number, handler in known.items() if handler not in (None, signal.SIG_IGN)}

    def hear(number: int, frame: FrameType | None) -> None:
        if signal.SIGINT in before:
            signal.signal(signal.SIGINT, before[signal.SIGINT])
        if asked.number:
            return
        asked.number = number
        if os.environ.get("RANK", "0") == "0":
            os.write(2, SAID)  # not by print: the signal may have come amid another write to the same stream

    for number in before:
        signal.signal(number, hear)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
