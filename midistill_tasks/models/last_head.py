"""The head of a causal LM: taken off where it comes last, so that hidden states stand in for logits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


@contextmanager
def head_returns(model: Any, function: Callable[[Tensor, Any], Tensor]) -> Iterator[None]:
    """Within it the model's head answers ``function(hidden, head)``, and so does the model, as its ``logits``."""
    head = model.get_output_embeddings()
    head.forward = lambda hidden: function(hidden, head)
    try:
        yield
    finally:
        del head.forward


def head_is_last(model: Any) -> bool:
    """Whether the logits are what a plain linear head makes of the hidden states: not soft-capped, scaled or the like.

    Put in place of the head's output, a probe must come out of the model as it went in.
    """
    head = model.get_output_embeddings()
    if type(head) is not nn.Linear or head.weight.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        return False
    ids = torch.zeros(1, 2, dtype=torch.long, device=head.weight.device)
    probe = 100 * torch.linspace(-1, 1, 2 * head.out_features, device=ids.device).view(1, 2, -1)
    with torch.no_grad(), head_returns(model, lambda hidden, head: probe):
        logits = model(input_ids=ids, use_cache=False).logits
    return logits.shape == probe.shape and torch.equal(logits.float(), probe)
