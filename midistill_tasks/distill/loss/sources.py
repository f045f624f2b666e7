"""Where next-token distributions come from: a head over hidden states, logits, a teacher's cached top-k or draws."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from midistill_tasks.methods import Divergence

_LOWEST = -1e30
"""Stands for a logit of −inf, since 0·(−inf) is NaN; its exponential is 0 all the same."""


class Source(Protocol):
    """Where a next-token distribution comes from."""

    @property
    def source(self) -> Tensor:
        """[B,T,·]: one row a token."""

    @property
    def vocab(self) -> int:
        """V, the tokens that the distribution runs over."""

    def part(self, rows: Tensor, temperature: float, out: Tensor) -> tuple[Tensor, ...]:
        """What ``compare`` needs of the n flat positions ``rows``, each of n rows; ``out`` [n, v] is memory to use."""

    def compare(self, part: tuple[Tensor, ...], q: Tensor, log_q: Tensor, d: Divergence) -> tuple[Tensor, Tensor]:
        """As a teacher: D [n] against the student's q [n, v], and its gradient [n, v]; may overwrite all of them."""


class Head(NamedTuple):
    """Logits as hidden states times head: ``source`` [B,T,H], ``weight`` [V,H], ``bias`` [V] or None."""

    source: Tensor
    weight: Tensor
    bias: Tensor | None = None

    @property
    def vocab(self) -> int:
        """V, the rows of the head."""
        return self.weight.shape[0]

    def part(self, rows: Tensor, temperature: float, out: Tensor) -> tuple[Tensor, ...]:
        """Fills ``out`` [n, v] with logits / T of the first v tokens."""
        hidden = self.source.flatten(0, 1)[rows]
        weight = self.weight[: out.shape[1]].t()
        bias, beta = (hidden.new_zeros(1), 0.0) if self.bias is None else (self.bias[: out.shape[1]], 1 / temperature)
        if out.dtype == hidden.dtype:
            torch.addmm(bias, hidden, weight, beta=beta, alpha=1 / temperature, out=out)
        else:
            out.copy_(torch.addmm(bias, hidden, weight, beta=beta, alpha=1 / temperature))
        return (out,)

    def compare(self, part: tuple[Tensor, ...], q: Tensor, log_q: Tensor, d: Divergence) -> tuple[Tensor, Tensor]:
        """D over the whole vocabulary."""
        return _compare_whole(part[0], q, log_q, d)


class Logits(NamedTuple):
    """Given logits ``source`` [B,T,V], of models that change them after the head (soft-capping, scaling, red list)."""

    source: Tensor

    @property
    def vocab(self) -> int:
        """V."""
        return self.source.shape[-1]

    def part(self, rows: Tensor, temperature: float, out: Tensor) -> tuple[Tensor, ...]:
        """Fills ``out`` [n, v] with logits / T of the first v tokens."""
        out.copy_(self.source.flatten(0, 1)[rows, : out.shape[1]]).div_(temperature).clamp_(min=_LOWEST)
        return (out,)

    def compare(self, part: tuple[Tensor, ...], q: Tensor, log_q: Tensor, d: Divergence) -> tuple[Tensor, Tensor]:
        """D over the whole vocabulary."""
        return _compare_whole(part[0], q, log_q, d)


def _compare_whole(scaled: Tensor, q: Tensor, log_q: Tensor, d: Divergence) -> tuple[Tensor, Tensor]:
    p = torch.softmax(scaled, -1)
    return d(p, scaled.sub_(log_sum_exp(scaled, p)), q, log_q)


def log_sum_exp(x: Tensor, softmax: Tensor) -> Tensor:
    """log-sum-exp of the rows [n, 1], from their largest probability: two cheap passes."""
    return x.amax(-1, keepdim=True) - softmax.amax(-1, keepdim=True).log_()


class TopK(NamedTuple):
    """A teacher's cached top-k: logits ``source`` and ``ids`` [B,T,k]; ``lse`` [B,T], log-sum-exp of all V logits / T.

    T is the recipe's. What the k tokens leave of the probability is one bucket, compared with what the student gives
    to all other tokens; at k = V this is the full loss. The bucket counts as no less than the rounding error of
    1 − Σp, so that reverse KL stays finite.
    """

    source: Tensor
    ids: Tensor
    lse: Tensor
    vocab: int

    def part(self, rows: Tensor, temperature: float, out: Tensor) -> tuple[Tensor, ...]:
        """log p of the k tokens at T, and their ids: both [n, k]."""
        logits, lse = (x.flatten(0, 1)[rows].to(out.dtype) for x in (self.source, self.lse[..., None]))
        return (logits / temperature).sub_(lse).clamp_(min=_LOWEST), self.ids.flatten(0, 1)[rows].long()

    def compare(self, part: tuple[Tensor, ...], q: Tensor, log_q: Tensor, d: Divergence) -> tuple[Tensor, Tensor]:
        """D over k + 1 buckets; the last one's gradient is shared among its tokens in proportion to q."""
        log_p, ids = part
        p, top_q, top_log_q = log_p.exp(), q.gather(1, ids), log_q.gather(1, ids)
        if ids.shape[1] == self.vocab:
            value, gradient = d(p, log_p, top_q, top_log_q)
            return value, q.scatter_(1, ids, gradient)
        info = torch.finfo(p.dtype)
        rest_p = (1 - p.sum(1, keepdim=True)).clamp_(min=info.eps)
        rest_q = q.scatter_(1, ids, 0).sum(1, keepdim=True).clamp_(min=info.tiny)
        value, gradient = d(
            torch.cat([p, rest_p], 1),
            torch.cat([log_p, rest_p.log()], 1),
            torch.cat([top_q, rest_q], 1),
            torch.cat([top_log_q, rest_q.log()], 1),
        )
        return value, q.mul_(gradient[:, -1:] / rest_q).scatter_(1, ids, gradient[:, :-1].contiguous())


class Samples(NamedTuple):
    """Draws from a teacher's distribution at the recipe's T: ``source`` [B,T,N], their tokens, as often as each was
    drawn; ``entropy`` [B,T], H(p) of the distribution.

    What forward KL and its gradient have of p is linear in it, so that with the draws' shares in its place both are
    right in expectation (Anshumann et al. 2025): −H(p) − mean of log q over the draws, and q − shares. Of one token
    the value may be negative. No other divergence is linear in p.
    """

    source: Tensor
    entropy: Tensor
    vocab: int

    def part(self, rows: Tensor, temperature: float, out: Tensor) -> tuple[Tensor, ...]:
        """The draws [n, N] and the entropies [n]."""
        return self.source.flatten(0, 1)[rows].long(), self.entropy.flatten()[rows].to(out.dtype)

    def compare(self, part: tuple[Tensor, ...], q: Tensor, log_q: Tensor, d: Divergence) -> tuple[Tensor, Tensor]:
        """Forward KL, and its gradient; `d` is that."""
        ids, entropy = part
        value = -entropy - log_q.gather(1, ids).mean(1)
        return value, q.scatter_add_(1, ids, q.new_full((1, 1), -1 / ids.shape[1]).expand(ids.shape))
