"""What runs in vLLM's workers: μ and σ of next-token distributions, which vLLM itself does not give.

`plugin/` has vLLM mix this class into its workers (``worker_extension_cls``); until it is switched on it does nothing.
"""

from __future__ import annotations

from typing import Any

import torch
import xxhash
from torch import Tensor

COLUMNS = 3
"""``prompt_logprobs`` of the requests that are meant: the likeliest token's, then μ and σ in place of two more."""
_ROWS = 64
_LOWEST = -1e15
_VARIANCE_FLOOR = 1e-6


class Moments:
    """Methods of a worker, by name through ``collective_rpc``."""

    model_runner: Any

    def midistill_moments(self, on: bool) -> None:
        """From now on requests with `COLUMNS` prompt log-probabilities have the moments in the last two, or not."""
        sampler = self.model_runner.sampler
        if not on:
            sampler.__dict__.pop("gather_logprobs", None)
            return
        plain = type(sampler).gather_logprobs

        def gather(logprobs: Tensor, num_logprobs: int, token_ids: Tensor, *args: Any, **kwargs: Any) -> Any:
            found = plain(logprobs, num_logprobs, token_ids, *args, **kwargs)
            if num_logprobs == COLUMNS:
                found.logprobs[:, 2:4] = moments(logprobs)
            return found

        sampler.gather_logprobs = gather

    def midistill_error(self) -> float:
        """How far what requests are given is from the plain formula in float64, on logits that are made up."""
        generator = torch.Generator().manual_seed(0)
        logits = 4 * torch.randn(3, self.model_runner.model_config.get_vocab_size(), generator=generator)
        tokens = torch.tensor([0, 1, 2])
        device = next(self.model_runner.model.parameters()).device
        sampler = self.model_runner.sampler
        given = sampler.gather_logprobs(
            sampler.compute_logprobs(logits.to(device)), COLUMNS, tokens.to(device)
        ).logprobs.cpu()
        log_p = logits.double().log_softmax(-1)
        mean = (log_p.exp() * log_p).sum(-1)
        std = ((log_p.exp() * log_p**2).sum(-1) - mean**2).sqrt()
        plain = torch.stack([log_p[tokens, tokens], log_p.amax(-1), mean, std], -1)
        return float((given - plain).abs().max())

    def midistill_fingerprint(self) -> str:
        """A hash over every weight that this worker holds."""
        digest = xxhash.xxh3_128()
        for name, tensor in self.model_runner.model.state_dict().items():
            digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()


def moments(logprobs: Tensor) -> Tensor:
    """μ = Σ p log p and σ, the standard deviation of log p under p, of log-probabilities [N, V]; float32 [N, 2]."""
    parts = []
    for rows in torch.split(logprobs, _ROWS):
        known = rows.float().clamp(min=_LOWEST)
        p = known.exp()
        mean = (p * known).sum(-1)
        known -= mean[:, None]
        variance = (p * known.square()).sum(-1)
        parts.append(torch.stack([mean, variance.clamp(min=_VARIANCE_FLOOR).sqrt()], -1))
    return torch.cat(parts)
