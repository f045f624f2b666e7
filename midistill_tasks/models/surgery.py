"""Where things are in a causal LM of any architecture: its blocks, its norms, the first projections of its FFNs."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from midistill_tasks.errors import InputError
from midistill_tasks.models.layers import Bottleneck

_PROJECTIONS = (nn.Linear, Conv1D, Bottleneck)
"""What an FFN is made of; it stays one where a bottleneck has been put into it."""


def is_norm(module: nn.Module) -> bool:
    """LayerNorm and RMSNorm of any architecture; they share no class, only the name."""
    name = type(module).__name__
    return isinstance(module, nn.LayerNorm) or "LayerNorm" in name or "RMSNorm" in name


def blocks_of(model: nn.Module, config: Any) -> tuple[str, nn.ModuleList]:
    """The list of the model's blocks, and its name; an empty one where there is none."""
    lists = ((name, m) for name, m in model.named_modules() if isinstance(m, nn.ModuleList))
    return next(((name, m) for name, m in lists if len(m) == config.num_hidden_layers), ("", nn.ModuleList()))


def first_projections(model: nn.Module, config: Any) -> list[tuple[nn.Module, list[str]]]:
    """Per block the module that holds the FFN and the names of its first projections (one, or gate and up).

    An FFN is known by its shapes: outside attention, a module whose projections go from H to I (or to 2I, gate and up
    in one matrix), but for the last, which goes from I back to H.
    """
    _, blocks = blocks_of(model, config)
    ffns = [ffn for block in blocks for ffn in _ffns(block, config.hidden_size)]
    mixture = any("Experts" in type(m).__name__ for m in blocks.modules())
    if mixture or len(ffns) != config.num_hidden_layers:
        why = "its FFN is a mixture of experts" if mixture else f"{len(ffns)} in {config.num_hidden_layers} blocks"
        raise InputError(
            f"{type(model).__name__}: there is no FFN of the shape H→I, I→H in every block ({why}); "
            "remove what changes FFNs (bottleneck, same_params, ffn_dropout) or use another architecture"
        )
    return ffns


def _ffns(block: nn.Module, hidden: int) -> list[tuple[nn.Module, list[str]]]:
    ffns = []
    for module in block.modules():
        if "attention" in type(module).__name__.lower() or isinstance(module, Bottleneck):
            continue
        linear = [(n, *shape(m)) for n, m in module.named_children() if isinstance(m, _PROJECTIONS)]
        if len(linear) < 2:
            continue
        *firsts, (_, width, back) = linear
        if back == hidden and all(inputs == hidden and outputs in (width, 2 * width) for _, inputs, outputs in firsts):
            ffns.append((module, [name for name, _, _ in firsts]))
    return ffns


def shape(projection: nn.Linear | Conv1D | Bottleneck) -> tuple[int, int]:
    """(inputs, outputs); GPT-2's Conv1D keeps its weight transposed."""
    if isinstance(projection, Bottleneck):
        return projection.down.in_features, projection.up.out_features
    rows, columns = projection.weight.shape
    return (rows, columns) if isinstance(projection, Conv1D) else (columns, rows)


def skeleton(config: Any) -> Any:
    """A causal LM of this config that takes no memory: its weights have no values."""
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


def n_parameters(config: Any) -> int:
    """Parameters of a causal LM of this config, tied ones once."""
    return sum(p.numel() for p in skeleton(config).parameters())
