"""What a training costs on this machine, found by making a few of its steps: the one place where time is estimated."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.data import SequentialSampler
from transformers import TrainerCallback

from midistill_tasks.distill.callbacks.progress import Progress
from midistill_tasks.distill.dp.trainer import DPTrainer
from midistill_tasks.distill.loader import BLANK, Shuffle
from midistill_tasks.models.batching import token_statistics

STEPS, MOST = 3, 30
"""Timed steps, at least and at most. One before them is of the longest texts and not timed: buffers are made in it."""
ENOUGH, PATIENCE = 5.0, 60.0
"""Seconds after which no further step begins: where the least are made, and in any case once one is timed."""


@dataclass(frozen=True)
class Pace:
    """Of steps that were made.

    Attributes:
        seconds: of each.
        lengths: in tokens, of each batch.
        tokens: of all batches, padding included.
        texts: a step.
    """

    seconds: Sequence[float]
    lengths: Sequence[int]
    tokens: int
    texts: int

    @property
    def per_token(self) -> float:
        """Seconds."""
        return sum(self.seconds) / self.tokens

    def __str__(self) -> str:
        steps = f"{len(self.seconds)} step{'s' if len(self.seconds) > 1 else ''} of {self.texts} texts"
        return (
            f"timed {steps} ({_range(self.lengths, '')} tokens long): {_range(self.seconds, '.2g')} s each, "
            "with weights drawn at random, which take as long"
        )


def _range(values: Sequence[float], form: str) -> str:
    low, high = (format(value, form) for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def typical(lengths: Sequence[int], texts: int, seed: int) -> list[int]:
    """Positions of the texts of the steps that `time_steps` makes: the longest, then as an epoch draws them."""
    longest = sorted(range(len(lengths)), key=lambda position: -lengths[position])[:texts]
    drawn = [position for position in Shuffle(len(lengths), 1, seed) if position != BLANK]
    return [some[number % len(some)] for some, n in ((longest, texts), (drawn, MOST * texts)) for number in range(n)]


def time_steps(trainer: DPTrainer, lengths: Sequence[int], texts: int) -> Pace:
    """Makes the steps on a dataset of the texts that `typical` chose; `lengths` are theirs. The model is used up.

    With DP a step of the clock takes as many texts as one of the training is expected to.
    """
    args = trainer.args
    batch = args.train_batch_size
    if trainer.private:
        trainer.in_order(texts)
        batch = trainer.at_once
    args.max_steps, args.logging_steps, args.save_strategy = 1 + MOST, 1, "no"
    trainer._get_train_sampler = lambda *_: SequentialSampler(trainer.train_dataset)
    clock = _Clock()
    trainer.remove_callback(Progress)
    trainer.add_callback(clock)
    trainer.train()
    timed = lengths[texts : texts * len(clock.ends)]
    batches = [timed[start : start + batch] for start in range(0, len(timed), batch)]
    seconds = [end - start for start, end in zip(clock.ends, clock.ends[1:], strict=False)]
    return Pace(seconds, [max(b) for b in batches], sum(len(b) * max(b) for b in batches), texts)


def padded_tokens(lengths: Sequence[int], batch: int, seed: int) -> int:
    """Of the batches of one epoch."""
    order = [position for position in Shuffle(len(lengths), 1, seed) if position != BLANK]
    batches = [[lengths[p] for p in order[start : start + batch]] for start in range(0, len(order), batch)]
    return sum(batch * max(each) for each in batches)


def seconds_a_token(model: nn.Module, rows: Sequence[Sequence[int]], batch: int = 8) -> float:
    """Of a forward, as the measurements and attacks make it; from two batches."""
    chosen = [list(rows[number * len(rows) // (2 * batch)]) for number in range(2 * batch)]
    token_statistics(model, chosen[:1])
    start = time.monotonic()
    token_statistics(model, chosen, batch)
    return (time.monotonic() - start) / sum(map(len, chosen))


def peak_memory() -> int:
    """The most bytes that this process has had so far, the GPU's where there is one; 0 where the system keeps quiet."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    try:
        import resource
    except ImportError:  # Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


class _Clock(TrainerCallback):  # type: ignore[misc]
    """When each step ended; what a GPU has still to do belongs to the step."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Ends the training, too, where the steps take long."""
        if torch.accelerator.is_available():
            torch.accelerator.synchronize()
        self.ends.append(time.monotonic())
        took, timed = self.ends[-1] - self.ends[0], len(self.ends) - 1
        if timed and took > (ENOUGH if timed >= STEPS else PATIENCE):
            control.should_training_stop = True
