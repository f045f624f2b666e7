"""Divergences between the next-token distributions of teacher p and student q, each with its gradient.

A divergence takes p, log p, q, log q, all [n, m] (finite; the rows of p and q sum to 1), and answers its value [n] and
the gradient [n, m] with respect to the logits a of q = softmax(a). With g = ∂D/∂q that gradient is q⊙(g − Σ q·g).
Its arguments are scratch: it may overwrite them, and answers with the gradient in the memory of q.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.linalg import vecdot

Divergence = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def forward_kl(p: Tensor, log_p: Tensor, q: Tensor, log_q: Tensor) -> tuple[Tensor, Tensor]:
    """KL(p ‖ q) = Σ p·log(p/q) (Hinton et al. 2015): [n, m] four times → [n], [n, m]."""
    return vecdot(p, log_p.sub_(log_q)), q.sub_(p)


def reverse_kl(p: Tensor, log_p: Tensor, q: Tensor, log_q: Tensor) -> tuple[Tensor, Tensor]:
    """KL(q ‖ p) = Σ q·log(q/p) (Gu et al. 2024, MiniLLM): [n, m] four times → [n], [n, m]."""
    ratio = log_q.sub_(log_p)
    value = vecdot(q, ratio)
    return value, q.mul_(ratio.sub_(value[:, None]))


def jsd(beta: float) -> Divergence:
    """β·KL(p ‖ M) + (1−β)·KL(q ‖ M) with M = β·p + (1−β)·q, 0 < β < 1 (Agarwal et al. 2024, GKD, equation 2)."""

    def divergence(p: Tensor, log_p: Tensor, q: Tensor, log_q: Tensor) -> tuple[Tensor, Tensor]:
        log_m = _mixture(p, q, beta).log_()
        of_teacher = vecdot(p, log_p.sub_(log_m))
        ratio = log_q.sub_(log_m)
        of_student = vecdot(q, ratio)
        gradient = q.mul_(ratio.sub_(of_student[:, None])).mul_(1 - beta)
        return beta * of_teacher + (1 - beta) * of_student, gradient

    return divergence


def skew_kl(skew: float) -> Divergence:
    """KL(p ‖ M) with M = λ·p + (1−λ)·q, 0 < λ < 1 (Ko et al. 2024, DistiLLM, equation 3; they take λ = 0.1)."""

    def divergence(p: Tensor, log_p: Tensor, q: Tensor, log_q: Tensor) -> tuple[Tensor, Tensor]:
        m = _mixture(p, q, skew)
        share = torch.div(p, m).mul_(q).mul_(1 - skew)  # −q·g
        value = vecdot(p, log_p.sub_(m.log_()))
        return value, q.mul_(share.sum(-1, keepdim=True)).sub_(share)

    return divergence


def _mixture(p: Tensor, q: Tensor, share: float) -> Tensor:
    # Where both underflow to 0, log M must stay finite.
    return torch.lerp(q, p, share).clamp_(min=torch.finfo(p.dtype).tiny)


def make_divergence(name: str, beta: float = 0.5, skew: float = 0.1) -> Divergence:
    """The divergence of a recipe: "forward_kl", "reverse_kl", "jsd" (with ``beta``) or "skew_kl" (with ``skew``)."""
    made: dict[str, Divergence] = {
        "forward_kl": forward_kl,
        "reverse_kl": reverse_kl,
        "jsd": jsd(beta),
        "skew_kl": skew_kl(skew),
    }
    return made[name]
