"""Norms of the gradient of a text's loss, one text at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from midistill_tasks.scoring.protocol import Job, Result
from midistill_tasks.views import FloatArray


def gradient_norms(model: PreTrainedModel, job: Job) -> Result:
    """The log-probabilities of the job's tokens, and L1, L2 and L∞ norms of the gradient of their mean loss.

    By all parameters, the embedding's and the head's (one and the same where they are tied); [3, 3]. Quantised weights
    have no gradient and take no part.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.is_floating_point()]
    ids = torch.tensor([(*job.prefix, *job.ids)], device=model.device)
    start = len(job.prefix) + job.first
    asked = [parameter.requires_grad for parameter in parameters]
    try:
        for parameter in parameters:
            parameter.requires_grad_(True)
        with torch.enable_grad():
            logits = model(ids).logits[0, start - 1 : -1].float()
            logprob = logits.log_softmax(-1).gather(-1, ids[0, start:, None])[:, 0]
            gradients = torch.autograd.grad(-logprob.mean(), parameters, allow_unused=True)
    finally:
        for parameter, needed in zip(parameters, asked, strict=True):
            parameter.requires_grad_(needed)
    of = {id(parameter): gradient for parameter, gradient in zip(parameters, gradients, strict=True)}
    groups: list[list[Tensor | None]] = [
        list(of.values()),
        *([of.get(id(weight))] for weight in map(_weight, _ends(model))),
    ]
    norms = np.array([_norms(group) for group in groups], dtype=np.float32)
    return Result(logprob.detach().cpu().numpy(), gradient=norms)


def _ends(model: PreTrainedModel) -> tuple[nn.Module | None, nn.Module | None]:
    return model.get_input_embeddings(), model.get_output_embeddings()


def _weight(module: nn.Module | None) -> Tensor | None:
    weight: Tensor | None = getattr(module, "weight", None)
    return weight


def _norms(gradients: Sequence[Tensor | None]) -> FloatArray:
    """L1, L2 and L∞ of all together."""
    one, two, most = 0.0, 0.0, 0.0
    for gradient in gradients:
        if gradient is not None:
            values = gradient.abs().double()
            one += float(values.sum())
            two += float((values * values).sum())
            most = max(most, float(values.max()))
    return np.array([one, two**0.5, most], dtype=np.float32)
