"""Ends a run that has blown up, before its weights are lost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from transformers import TrainerCallback

from midistill_tasks.errors import InputError
from midistill_tasks.methods import Intervention
from midistill_tasks.recipes.schema import Loss

FACTOR = 10
STEPS = 10
"""A run is given up when its loss stays this many times above that of a student that knows nothing, for so long."""


class BlowUpGuard(TrainerCallback):  # type: ignore[misc]
    """Stops a run before a non-finite gradient reaches the weights, or when its loss has left all bounds.

    The bound is `FACTOR` times the loss of a student that gives all tokens one probability (its CE is ln V).
    """

    def __init__(self, loss: Loss, vocab_size: int, interventions: Sequence[Intervention] = ()) -> None:
        uniform = (1 - loss.alpha + loss.alpha * loss.temperature**2) * math.log(vocab_size)
        # compat sums over time, so its loss is larger by the length of the texts: only the gradient is watched then.
        self.bound = math.inf if loss.compat else FACTOR * uniform
        self.interventions, self.above, self.loss = interventions, 0, 0.0

    def see(self, loss: float) -> None:
        """Takes note of what one batch adds to the loss of its step."""
        self.loss += loss

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Called when the gradients are there and the weights still as they were.

        Raises:
            InputError: the run has blown up; what to change.
        """
        last, self.loss = self.loss, 0.0
        self.above = self.above + 1 if last > self.bound else 0
        gradients = [p.grad for p in kwargs["model"].parameters() if p.grad is not None]
        finite = bool(torch.stack(torch._foreach_norm(gradients)).isfinite().all())
        if finite and math.isfinite(last) and self.above < STEPS:
            return
        if state.global_step == 0 and not math.isfinite(last):
            remedy = "; ".join(filter(None, (i.advice_at_start for i in self.interventions))) or "look at its weights"
            raise InputError(f"the student's outputs are not finite before its first step: {remedy}")
        why = "".join(f"{i.advice}: " for i in self.interventions if i.advice)
        raise InputError(
            f"the run diverged at step {state.global_step + 1} (loss {last:.4g}, learning rate"
            f" {args.learning_rate:g}): {why}try train.learning_rate={args.learning_rate / 10:g}, more"
            " train.warmup_steps or a smaller train.clip in a new output; the weights of earlier checkpoints are finite"
        )
