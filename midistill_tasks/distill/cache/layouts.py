"""What the teacher's cache keeps of a prediction, and what the loss makes of it again.

Of each prediction (n − 1 of a text of n tokens) a layout has arrays, [n−1, …]. Token ids take two bytes where the
vocabulary allows it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import xxhash
from torch import Tensor

from midistill_tasks.distill.loss.sources import Samples, Source, TopK

Arrays = Mapping[str, Tensor]

_SHORT = 2**16
"""Tokens that two bytes tell apart."""
_NEVER = 255
"""The code of a logit of −inf."""
_BLOCK = 2**22
"""Probabilities that are summed up at once."""


class Layout(Protocol):
    """How a prediction is kept."""

    @property
    def bytes_a_token(self) -> int:
        """On disk."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the arrays."""

    def arrays(self, logits: Tensor, ids: Sequence[int]) -> Arrays:
        """Of one text: the teacher's logits [n−1, V] over the tokenizer's V tokens, float32, and its n token ids."""

    def source(self, batch: Arrays, vocab: int) -> Source:
        """The teacher of a batch, whose arrays are [B, T, …]; `vocab` is V."""


@dataclass(frozen=True)
class Exact:
    """The k largest logits in float32, as midistill 0.1.0 kept them.

    ``lse`` and ``lse_t`` are the log-sum-exp of the whole row of logits at T = 1, and of logits / T at the recipe's T.
    """

    k: int
    temperature: float
    names = ("logits", "ids", "lse", "lse_t")

    @property
    def bytes_a_token(self) -> int:
        """Without the log-sum-exps, by which the shards were never sized."""
        return 8 * self.k

    def arrays(self, logits: Tensor, ids: Sequence[int]) -> Arrays:
        top = logits.topk(min(self.k, logits.shape[-1]), dim=-1)
        lse, lse_t = logits.logsumexp(-1), (logits / self.temperature).logsumexp(-1)
        return {"logits": top.values, "ids": top.indices.int(), "lse": lse, "lse_t": lse_t}

    def source(self, batch: Arrays, vocab: int) -> Source:
        return TopK(batch["logits"], batch["ids"], batch["lse_t"], vocab)


@dataclass(frozen=True)
class Rounded:
    """The k largest logits in 8 bit, evenly spaced from the largest down to the smallest of them.

    ``lse_t`` is the log-sum-exp at the recipe's T by which the rounded ones have the k tokens' own probability.
    """

    k: int
    temperature: float
    vocab: int
    names = ("codes", "ids", "top", "step", "lse_t")

    @property
    def bytes_a_token(self) -> int:
        return self.k * (1 + _id_bytes(self.vocab)) + 12

    def arrays(self, logits: Tensor, ids: Sequence[int]) -> Arrays:
        values, tokens = logits.topk(min(self.k, logits.shape[-1]), dim=-1)
        top = values[:, :1]
        lowest = values.masked_fill(values.isneginf(), torch.inf).amin(-1, keepdim=True)
        step = ((top - lowest) / (_NEVER - 1)).clamp(min=torch.finfo(torch.float32).tiny)
        codes = ((top - values) / step).round().clamp(max=_NEVER).to(torch.uint8)
        mass = (values / self.temperature).logsumexp(-1) - (logits / self.temperature).logsumexp(-1)
        lse_t = (_decoded(codes, top, step) / self.temperature).logsumexp(-1) - mass
        named = (codes, tokens.to(_id_type(self.vocab)), top[:, 0], step[:, 0], lse_t)
        return dict(zip(self.names, named, strict=True))

    def source(self, batch: Arrays, vocab: int) -> Source:
        logits = _decoded(batch["codes"], batch["top"][..., None], batch["step"][..., None])
        return TopK(logits, batch["ids"].int(), batch["lse_t"], vocab)


def _decoded(codes: Tensor, top: Tensor, step: Tensor) -> Tensor:
    return (top - codes * step).masked_fill(codes == _NEVER, -torch.inf)


@dataclass(frozen=True)
class Sampled:
    """Draws from the teacher's distribution at the recipe's T, and its entropy there (Anshumann et al. 2025).

    The N draws of a prediction are systematic: one uniform number u, and the tokens at which the cumulative probability
    passes (u + i) / N. Each token is drawn N·p times in expectation, as by independent draws, and a token of p ≥ 1/N
    ⌊N·p⌋ times at the least. u depends on the text's tokens and the seed alone.
    """

    samples: int
    seed: int
    temperature: float
    vocab: int
    names = ("ids", "entropy")

    @property
    def bytes_a_token(self) -> int:
        return self.samples * _id_bytes(self.vocab) + 4

    def arrays(self, logits: Tensor, ids: Sequence[int]) -> Arrays:
        log_p = (logits / self.temperature).log_softmax(-1)
        entropy = -(log_p.exp() * log_p.clamp(min=torch.finfo(log_p.dtype).min)).sum(-1)
        text = xxhash.xxh3_64_intdigest(np.asarray(ids, dtype="<i8").tobytes())
        starts = torch.from_numpy(np.random.default_rng([self.seed, text]).random(len(logits))).to(logits.device)
        rows = max(1, _BLOCK // logits.shape[-1])
        pairs = zip(torch.split(log_p, rows), torch.split(starts, rows), strict=True)
        drawn = torch.cat([draw(block.double().exp(), start, self.samples) for block, start in pairs])
        return {"ids": drawn.to(_id_type(self.vocab)), "entropy": entropy}

    def source(self, batch: Arrays, vocab: int) -> Source:
        return Samples(batch["ids"].int(), batch["entropy"], vocab)


@dataclass(frozen=True)
class Hidden:
    """The teacher's last hidden states, of `bits` a value: with its head they are all its logits.

    Its arrays are made of them, [n−1, width], in place of logits, and the source is what `HiddenCache` makes of them.
    """

    width: int
    bits: int
    names = ("hidden",)

    @property
    def bytes_a_token(self) -> int:
        return self.width * self.bits // 8

    def arrays(self, logits: Tensor, ids: Sequence[int]) -> Arrays:
        return {"hidden": logits}

    def source(self, batch: Arrays, vocab: int) -> Source:
        raise TypeError("hidden states are no distribution without their head: see HiddenCache")


def draw(p: Tensor, start: Tensor, samples: int) -> Tensor:
    """Systematic draws: probabilities [n, V] in float64, numbers [n] in [0, 1) → tokens [n, samples], rising."""
    reached = p.cumsum(-1)
    whole = reached[:, -1:]
    places = (start[:, None] + torch.arange(samples, device=p.device)) / samples * whole
    # Strictly below the whole, so that no token beyond the last one that has a probability is drawn.
    places = torch.minimum(places, torch.nextafter(whole, torch.zeros_like(whole)))
    return torch.searchsorted(reached, places, right=True)


def _id_bytes(vocab: int) -> int:
    return 2 if vocab <= _SHORT else 4


def _id_type(vocab: int) -> torch.dtype:
    return torch.uint16 if vocab <= _SHORT else torch.int32
