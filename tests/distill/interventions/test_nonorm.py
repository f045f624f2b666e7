"""What stands in place of each norm, and what it computes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from made_students import changes
from torch import nn

from midistill_tasks.errors import InputError
from midistill_tasks.models.architectures import convert
from midistill_tasks.models.layers import NoLayerNorm
from midistill_tasks.models.surgery import is_norm


def modules(model: nn.Module, kind: type[nn.Module]) -> list[Any]:
    return [m for m in model.modules() if isinstance(m, kind)]


def test_nonorm_leaves_no_norm_and_keeps_gain_and_shift(stock: Any, architecture: str) -> None:
    model = stock.model(architecture)
    student = convert(model, changes(nonorm=True))
    norms = {name: m for name, m in model.named_modules() if is_norm(m)}
    replaced = dict(student.named_modules())
    assert len(norms) >= 5
    for name, norm in norms.items():
        mine = replaced[name]
        assert isinstance(mine, NoLayerNorm)
        gain = 1 + norm.weight if architecture == "gemma2" else norm.weight  # Gemma's norms multiply by 1 + weight
        torch.testing.assert_close(mine.weight, gain)
        torch.testing.assert_close(mine.bias, getattr(norm, "bias", None) if hasattr(norm, "bias") else 0 * gain)
        x = torch.randn(3, 16)
        torch.testing.assert_close(mine(x), x * mine.weight + mine.bias)


def test_foldable_nonorm_is_centred_for_layer_norm_and_without_shift_for_rms_norm(stock: Any) -> None:
    x = torch.randn(3, 16)
    layer = modules(convert(stock.model("gpt2"), changes(nonorm=True, foldable=True)), NoLayerNorm)[0]
    torch.testing.assert_close(layer(x), (x - x.mean(-1, keepdim=True)) * layer.weight + layer.bias)
    rms = modules(convert(stock.model("llama"), changes(nonorm=True, foldable=True)), NoLayerNorm)[0]
    assert rms.bias is None
    torch.testing.assert_close(rms(x), x * rms.weight)


def test_nonorm_refuses_a_norm_with_a_gate(stock: Any) -> None:
    model = stock.model("mamba2", num_heads=4, head_dim=8, n_groups=1, state_size=8)
    with pytest.raises(InputError, match="Gated"):
        convert(model, changes(nonorm=True))
