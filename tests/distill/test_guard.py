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


def test_the_guard_says_of_a_later_step_what_to_train_otherwise(tiny):
    model = tiny.model()
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, math.nan)
    guard = BlowUpGuard(Loss(), 64, read_interventions({"nonorm": True}))
    guard.see(3.0)
    args, state = SimpleNamespace(learning_rate=1e-3), SimpleNamespace(global_step=7)
    with pytest.raises(
        InputError, match=r"diverged at step 8 .*NoNorm has no scale control: try train\.learning_rate="
    ):
        guard.on_pre_optimizer_step(args, state, None, model=model)


def test_the_guard_stops_a_loss_that_stays_out_of_bounds_but_not_a_spike(tiny):
    model = tiny.model()
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    args, state = SimpleNamespace(learning_rate=1e-3), SimpleNamespace(global_step=7)
    guard = BlowUpGuard(Loss(), 64)
    bound = 10 * 2.5 * math.log(64)
    for loss in [bound + 1] * 9 + [bound - 1] + [bound + 1] * 9:
        guard.see(loss)
        guard.on_pre_optimizer_step(args, state, None, model=model)
    guard.see(bound + 1)
    with pytest.raises(InputError, match=r"try train\.learning_rate=0\.0001"):
        guard.on_pre_optimizer_step(args, state, None, model=model)


def test_the_loss_of_a_step_is_that_of_all_its_batches(tiny):
    """Each of the accumulated batches has its share of the loss alone, and a step counts once."""
    model = tiny.model()
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    args, state = SimpleNamespace(learning_rate=1e-3), SimpleNamespace(global_step=7)
    guard = BlowUpGuard(Loss(), 64)
    for step in range(1, 11):
        for _ in range(4):
            guard.see(guard.bound / 4 + 1)
        if step < 10:
            guard.on_pre_optimizer_step(args, state, None, model=model)
    with pytest.raises(InputError, match=rf"loss {guard.bound + 4:.4g}, "):
        guard.on_pre_optimizer_step(args, state, None, model=model)
