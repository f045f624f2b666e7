"""The guard that stops a run; what it does inside a Trainer is in test_trainer.py."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from midistill_tasks.distill.callbacks.guard import BlowUpGuard
from midistill_tasks.errors import InputError
from midistill_tasks.methods import read_interventions
from midistill_tasks.recipes.schema import Loss


def stepping(model, gradient):
    """``step(guard)``: what the Trainer calls at the eighth step, with this in all gradients."""
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, gradient)
    args, state = SimpleNamespace(learning_rate=1e-3), SimpleNamespace(global_step=7)
    return lambda guard: guard.on_pre_optimizer_step(args, state, None, model=model)


def test_the_guard_says_of_a_later_step_what_to_train_otherwise(tiny):
    step = stepping(tiny.model(), math.nan)
    guard = BlowUpGuard(Loss(), 64, read_interventions({"nonorm": True}))
    guard.see(3.0)
    with pytest.raises(
        InputError, match=r"diverged at step 8 .*NoNorm has no scale control: try train\.learning_rate="
    ):
        step(guard)


def test_the_guard_stops_a_loss_that_stays_out_of_bounds_but_not_a_spike(tiny):
    guard, step = BlowUpGuard(Loss(), 64), stepping(tiny.model(), 0)
    bound = 10 * 2.5 * math.log(64)
    for loss in [bound + 1] * 9 + [bound - 1] + [bound + 1] * 9:
        guard.see(loss)
        step(guard)
    guard.see(bound + 1)
    with pytest.raises(InputError, match=r"try train\.learning_rate=0\.0001"):
        step(guard)


def test_the_loss_of_a_step_is_that_of_all_its_batches(tiny):
    """Each of the accumulated batches has its share of the loss alone, and a step counts once."""
    guard, step = BlowUpGuard(Loss(), 64), stepping(tiny.model(), 0)
    for number in range(1, 11):
        for _ in range(4):
            guard.see(guard.bound / 4 + 1)
        if number < 10:
            step(guard)
    with pytest.raises(InputError, match=rf"loss {guard.bound + 4:.4g}, "):
        step(guard)
