"""ℓ, μ, σ streamed over blocks of the vocabulary are those of whole rows in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from midistill_tasks.scoring.backends.hf import head as statistics
from midistill_tasks.scoring.backends.hf.head import from_head, from_logits


def rows(logits, targets):
    """The same, row by row in float64: arrays logprob, mean, std, greedy."""
    result = []
    for row, target in zip(logits.double().numpy(), targets.tolist(), strict=True):
        top = row.max()
        log_p = row - top - math.log(np.exp(row - top).sum())
        p = np.exp(log_p)
        seen = p > 0
        mean = float((p[seen] * log_p[seen]).sum())
        variance = float((p[seen] * log_p[seen] ** 2).sum()) - mean**2
        result.append((log_p[target], mean, math.sqrt(max(variance, 1e-6)), row[target] == top))
    return [np.array(column) for column in zip(*result, strict=True)]


def check(got, expected, tolerance=2e-5):
    for name, mine, theirs in zip(("logprob", "mean", "std"), got, expected, strict=False):
        np.testing.assert_allclose(mine.numpy(), theirs, rtol=tolerance, atol=tolerance, err_msg=name)
    assert got.greedy.tolist() == expected[3].tolist()


@pytest.fixture
def problem():
    torch.manual_seed(0)
    hidden, head = torch.randn(70, 16), nn.Linear(16, 3001, bias=True)
    with torch.no_grad():
        head.weight.mul_(20)
        head.bias.normal_()
        logits = head(hidden)
    return hidden, head.requires_grad_(False), logits, torch.randint(0, 3001, (70,))


@pytest.mark.parametrize("block", [2**20, 70 * 512, 1])  # one block, several and a rest, the smallest
@pytest.mark.parametrize("bias", [True, False])
def test_blocks_of_the_head(problem, block, bias, monkeypatch):
    hidden, head, logits, targets = problem
    monkeypatch.setitem(statistics._BLOCK_ELEMENTS, "cpu", block)
    if not bias:
        logits, head.bias = logits - head.bias, None

    check(from_head(hidden, head, targets), rows(logits, targets))


def test_parts_of_the_rows(problem, monkeypatch):
    hidden, head, logits, targets = problem
    monkeypatch.setattr(statistics, "_ROWS", 32)
    check(from_head(hidden, head, targets), rows(logits, targets))


def test_a_model_s_own_logits_are_left_as_they_were(problem):
    _, _, logits, targets = problem
    before = logits.clone()
    check(from_logits(logits, targets), rows(logits, targets))
    assert torch.equal(logits, before)


def test_the_arg_max_is_greedy_wherever_it_stands(problem, monkeypatch):
    hidden, head, logits, _ = problem
    monkeypatch.setitem(statistics._BLOCK_ELEMENTS, "cpu", 1)
    targets = logits.argmax(-1)
    targets[::2] = logits[::2].argmin(-1)

    assert from_head(hidden, head, targets).greedy.tolist() == [index % 2 == 1 for index in range(70)]


class Quantised(nn.Linear):
    """Stands for bitsandbytes, torchao and LoRA layers: a Linear whose weight is not what its forward uses."""

    def forward(self, x):
        return nn.functional.linear(x, self.weight * 2, self.bias)


def test_a_head_that_is_more_than_a_linear_is_called(problem):
    hidden, head, _, targets = problem
    quantised = Quantised(16, 3001).requires_grad_(False)
    quantised.load_state_dict(head.state_dict())

    check(from_head(hidden, quantised, targets), rows(quantised(hidden), targets))


def test_a_head_whose_weights_a_hook_fetches_is_called(problem):
    from accelerate import cpu_offload

    hidden, head, logits, targets = problem
    cpu_offload(head, execution_device=torch.device("cpu"))
    assert head.weight.device.type == "meta"

    check(from_head(hidden, head, targets), rows(logits, targets))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_reduced_in_float32(problem, dtype):
    hidden, head, _, targets = problem
    hidden, head = hidden.to(dtype), head.to(dtype)

    check(from_head(hidden, head, targets), rows(head(hidden).float(), targets), tolerance=1e-3)


# ---------------------------------------------------------------------- what is not finite


def infinite(problem, columns, value):
    _, _, logits, targets = problem
    logits = logits.clone()
    logits[:, columns] = value
    return logits, targets


def test_minus_infinity_is_legal(problem):
    logits, targets = infinite(problem, slice(0, 2900), -math.inf)
    targets[:] = torch.arange(2920, 2990)

    check(from_logits(logits, targets), rows(logits, targets))


def test_a_target_of_minus_infinity_is_impossible(problem):
    logits, targets = infinite(problem, slice(5, 8), -math.inf)
    targets[:] = 6
    stats = from_logits(logits, targets)

    assert stats.logprob.tolist() == [-math.inf] * 70
    check(stats._replace(logprob=torch.zeros(70)), [np.zeros(70), *rows(logits, targets)[1:]])


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("other", [0.0, -math.inf])
def test_nan_and_infinity_are_nan(problem, value, other):
    logits, targets = infinite(problem, 7, value)
    logits[:, 9] = other
    logits[3, 7] = 0.0
    stats = from_logits(logits, targets)

    assert stats.logprob.isnan().tolist() == [index != 3 for index in range(70)]


def test_certainty_has_the_floor_of_its_variance():
    logits = torch.full((1, 50), -200.0)
    logits[0, 4] = 200.0
    stats = from_logits(logits, torch.tensor([4]))

    assert stats.logprob.item() == 0
    assert stats.mean.item() == 0
    assert stats.std.item() == pytest.approx(1e-3)
