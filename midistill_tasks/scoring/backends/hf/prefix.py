"""One prefix, many continuations: attention that reads a single copy of the prefix's keys and values.

ReCaLL shows every text after the same shots. Instead of repeating the prefix's key-value cache for every row of a
batch, all query rows attend to the one copy, each row attends to itself, and the two softmaxes are merged exactly by
their log-sum-exps: out = lerp(own, prefix, sigmoid(lse_prefix − lse_own)). Grouped-query heads are folded into the
query rows, so that the prefix is never repeated.

The attention ops that return a log-sum-exp are private to torch: the caller compares with the plain way and falls back
(see `huggingface.py`). Run on CPU; the CUDA op is written but untested.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, PreTrainedModel

NAME = "midistill_shared_prefix"

KeysValues = list[tuple[Tensor, Tensor]]
"""Per layer the prefix's keys and values, each [1, heads, P, head_dim]."""

_current: KeysValues = []


class UnsupportedAttentionError(RuntimeError):
    """The model's attention needs something that the merged form does not do."""


def _flash(query: Tensor, key: Tensor, value: Tensor, causal: bool, scale: float | None) -> tuple[Tensor, Tensor]:
    """Attention output [B, H, T, D] and log-sum-exp [B, H, T]."""
    if query.device.type == "cpu":
        out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            query, key, value, 0.0, causal, scale=scale
        )
    else:
        out, lse = torch.ops.aten._scaled_dot_product_flash_attention(
            query, key, value, 0.0, causal, False, scale=scale
        )[:2]
    return out, lse


def _attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    for name in ("softcap", "s_aux", "position_bias", "sliding_window"):
        if kwargs.get(name) is not None:
            raise UnsupportedAttentionError(name)
    batch, heads, length, dim = query.shape
    groups = heads // key.shape[1]
    own, own_lse = _flash(
        query, key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1), causal=True, scale=scaling
    )
    keys, values = _current[module.layer_idx]  # type: ignore[index]
    folded = query.view(batch, -1, groups, length, dim).transpose(0, 1).reshape(1, -1, batch * groups * length, dim)
    prefix, prefix_lse = _flash(folded, keys, values, causal=False, scale=scaling)
    prefix = prefix.view(-1, batch, groups, length, dim).transpose(0, 1).reshape(batch, heads, length, dim)
    prefix_lse = prefix_lse.view(-1, batch, groups, length).transpose(0, 1).reshape(batch, heads, length)
    weight = torch.sigmoid(prefix_lse - own_lse)[..., None].to(own.dtype)
    return own.lerp(prefix, weight).transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, _attention)


@contextmanager
def shared_prefix(model: PreTrainedModel, layers: KeysValues) -> Iterator[None]:
    """While open, `model` reads its inputs as continuations of the prefix whose keys and values are `layers`.

    Inputs must be padded on the right and their `position_ids` start at the prefix's length.
    """
    global _current
    before = model.config._attn_implementation
    _current = layers
    model.set_attn_implementation(NAME)
    try:
        yield
    finally:
        model.set_attn_implementation(before)
        _current = []
