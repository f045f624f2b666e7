"""The modules that students have in place of stock ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class NoLayerNorm(nn.Module):
    """γ⊙x+β in place of a norm (MobileBERT's NoNorm, Sun et al. 2020): [..., D] → [..., D].

    The name holds "LayerNorm" because ``_init_weights`` of the base architecture knows norms by their class name.
    """

    def __init__(self, shape: tuple[int, ...], bias: bool = True, centred: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(shape))
        self.bias = nn.Parameter(torch.zeros(shape)) if bias else None
        self.centred = centred

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] → [..., D], in the dtype of ``x``."""
        if self.centred:
            x = x - x.mean(-1, keepdim=True)
        scaled = x * self.weight
        return (scaled if self.bias is None else scaled + self.bias).to(x.dtype)


class Bottleneck(nn.Module):
    """H→B→GELU→I in place of a projection H→I: [..., H] → [..., I]; without the GELU it folds into one matrix."""

    def __init__(self, inputs: int, width: int, outputs: int, bias: bool, gelu: bool = True) -> None:
        super().__init__()
        self.down = nn.Linear(inputs, width, bias=bias)
        self.activation = nn.GELU() if gelu else nn.Identity()
        self.up = nn.Linear(width, outputs, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """[..., H] → [..., I]."""
        up: Tensor = self.up(self.activation(self.down(x)))
        return up
