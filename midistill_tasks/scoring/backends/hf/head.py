"""ℓ, μ, σ and arg-max hits of next-token distributions, streamed over blocks of the vocabulary.

One pass over the head: a block of logits [N, b] is made, reduced and overwritten while it is in the processor's cache,
so no [N, V] tensor ever exists. The sums are kept relative to the running row maximum m, as in online softmax
(Milakov and Gimelshein 2018), extended to the second moment:

    s_i = Σ_v e^{x_v − m} (x_v − m)^i,  i = 0, 1, 2
    log p_v = x_v − m − log s_0,   μ = s_1/s_0 − log s_0,   σ² = s_2/s_0 − (s_1/s_0)²
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

VARIANCE_FLOOR = 1e-6
LOWEST = -1e15
"""Stands in for −inf: its square is finite in float32, so that 0 · (−inf)² = 0 holds."""

_ROWS = 1024
_ROWS_OF_LOGITS = 64
_BLOCK_ELEMENTS = {"cpu": 2**20, "cuda": 2**26}

Blocks = Iterator[tuple[int, Tensor]]
"""Blocks of logits of the same rows, float32 [N, b], each with the index of its first column; the reader overwrites."""


class Statistics(NamedTuple):
    """Per position: logprob, mean, std as float32 [N] and greedy as bool [N]; NaN where a logit is NaN or +inf."""

    logprob: Tensor
    mean: Tensor
    std: Tensor
    greedy: Tensor


def from_head(hidden: Tensor, head: nn.Module, targets: Tensor) -> Statistics:
    """Statistics of ``softmax(head(hidden))``.

    Args:
        hidden: last hidden states, [N, H], in the model's dtype.
        head: the output projection H → V; a plain Linear goes block by block, any other module (quantised, LoRA, with
            hooks that fetch its weights) row by row.
        targets: the tokens that came, int64 [N].
    """
    hooked = head._forward_hooks or head._forward_pre_hooks or hasattr(head, "_hf_hook")
    if type(head) is nn.Linear and not hooked:
        return _by_rows(lambda rows: _head_blocks(rows, head), hidden, targets, _ROWS)
    return _by_rows(lambda rows: _logit_blocks(head(rows)), hidden, targets, _ROWS_OF_LOGITS)


def from_logits(logits: Tensor, targets: Tensor) -> Statistics:
    """The same from a model's own logits [N, V], as they come (soft-capped, scaled, adapted)."""
    return _by_rows(_logit_blocks, logits, targets, _ROWS)


def _by_rows(blocks: Callable[[Tensor], Blocks], source: Tensor, targets: Tensor, size: int) -> Statistics:
    pairs = zip(torch.split(source, size), torch.split(targets, size), strict=True)
    parts = [_stream(lambda rows=rows: blocks(rows), chosen) for rows, chosen in pairs]  # type: ignore[misc]
    return Statistics(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _width(rows: int, device: torch.device) -> int:
    return max(256, _BLOCK_ELEMENTS.get(device.type, 2**20) // max(rows, 1))


def _head_blocks(hidden: Tensor, head: nn.Linear) -> Blocks:
    weight, bias = head.weight, head.bias
    width = _width(len(hidden), hidden.device)
    in_place = hidden.dtype == weight.dtype == torch.float32 and not torch.is_autocast_enabled(hidden.device.type)
    buffer = hidden.new_empty(len(hidden) * width) if in_place else None
    for start in range(0, len(weight), width):
        rows, offsets = weight[start : start + width], None if bias is None else bias[start : start + width]
        if buffer is None:
            block = nn.functional.linear(hidden, rows, offsets).float()
        else:
            block = buffer[: len(hidden) * len(rows)].view(len(hidden), len(rows))
            torch.mm(hidden, rows.T, out=block)
            if offsets is not None:
                block += offsets
        yield start, block


def _logit_blocks(logits: Tensor) -> Blocks:
    width = _width(len(logits), logits.device)
    for start in range(0, logits.shape[1], width):
        yield start, logits[:, start : start + width].float().clone()


def _stream(blocks: Callable[[], Blocks], targets: Tensor) -> Statistics:
    fast = _reduce(blocks(), targets)
    if bool(torch.isfinite(fast.mean).all()):
        return fast
    return _reduce(_floored(blocks()), targets)


def _floored(blocks: Blocks) -> Blocks:
    for start, block in blocks:
        block.clamp_(min=LOWEST)  # NaN and +inf stay, and end as NaN
        yield start, block


def _reduce(blocks: Blocks, targets: Tensor) -> Statistics:
    zeros = torch.zeros(len(targets), dtype=torch.float32, device=targets.device)
    top, s0, s1, s2, target = zeros - torch.inf, zeros, zeros, zeros, zeros.clone()
    for start, x in blocks:
        inside = ((targets >= start) & (targets < start + x.shape[1])).nonzero()[:, 0]
        target[inside] = x[inside, targets[inside] - start]
        new = torch.maximum(top, x.amax(-1))
        shift = top - new
        scale = shift.exp()
        shift = torch.where(torch.isneginf(shift), 0.0, shift)
        s2, s1, s0 = scale * (s2 + 2 * shift * s1 + shift**2 * s0), scale * (s1 + shift * s0), scale * s0
        x -= new[:, None]
        powers = x.exp()
        s0 = s0 + powers.sum(-1)
        s1 = s1 + powers.mul_(x).sum(-1)
        s2 = s2 + powers.mul_(x).sum(-1)
        top = new
    log_s0, first = s0.log(), s1 / s0
    std = (s2 / s0 - first**2).clamp(min=VARIANCE_FLOOR).sqrt()
    logprob = torch.where(target <= LOWEST, -torch.inf, target - top - log_s0)
    broken = torch.isnan(first)
    return Statistics(logprob.masked_fill(broken, torch.nan), first - log_s0, std, target >= top)
