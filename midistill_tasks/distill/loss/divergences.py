"""Divergences between the next-token distributions of teacher p and student q, each with its gradient.

A divergence takes p, log p, q, log q, all [n, m] (finite; the rows of p and q sum to 1), and answers its value [n] and
the gradient [n, m] with respect to the logits a of q = softmax(a). With g = ∂D/∂q that gradient is q⊙(g − Σ q·g).
Its arguments are scratch: it may overwrite them, and answers with the gradient in the memory of q. Its keyword-only
parameters are options, keys of the recipe's ``loss``.

torch is imported where it is used, so that a recipe's keys are known without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from midistill_tasks.methods import divergence
from midistill_tasks.options import option

if TYPE_CHECKING:
    from torch import Tensor


@divergence("forward_kl")
def forward_kl(p: Tensor, log_p: Tensor, q: Tensor, log_q: Tensor) -> tuple[Tensor, Tensor]:
    """KL(p ‖ q) = Σ p·log(p/q) (Hinton et al. 2015): [n, m] four times → [n], [n, m]."""
    return _dot(p, log_p.sub_(log_q)), q.sub_(p)


@divergence("reverse_kl")
def reverse_kl(p: Tensor, log_p: Tensor, q: Tensor, log_q: Tensor) -> tuple[Tensor, Tensor]:
    """KL(q ‖ p) = Σ q·log(q/p) (Gu et al. 2024, MiniLLM): [n, m] four times → [n], [n, m]."""
    ratio = log_q.sub_(log_p)
    value = _dot(q, ratio)
    return value, q.mul_(ratio.sub_(value[:, None]))


@divergence("jsd")
def jsd(
    p: Tensor,
    log_p: Tensor,
    q: Tensor,
    log_q: Tensor,
    *,
    beta: float = option(0.5, "the teacher's share of the mixture", gt=0, lt=1),
) -> tuple[Tensor, Tensor]:
    """β·KL(p ‖ M) + (1−β)·KL(q ‖ M) with M = β·p + (1−β)·q (Agarwal et al. 2024, GKD, equation 2)."""
    log_m = _mixture(p, q, beta).log_()
    of_teacher = _dot(p, log_p.sub_(log_m))
    ratio = log_q.sub_(log_m)
    of_student = _dot(q, ratio)
    gradient = q.mul_(ratio.sub_(of_student[:, None])).mul_(1 - beta)
    return beta * of_teacher + (1 - beta) * of_student, gradient


@divergence("skew_kl")
def skew_kl(
    p: Tensor,
    log_p: Tensor,
    q: Tensor,
    log_q: Tensor,
    *,
    skew: float = option(0.1, "the teacher's share of the mixture", gt=0, lt=1),
) -> tuple[Tensor, Tensor]:
    """KL(p ‖ M) with M = λ·p + (1−λ)·q (Ko et al. 2024, DistiLLM, equation 3; they take λ = 0.1)."""
    m = _mixture(p, q, skew)
    share = p.div(m).mul_(q).mul_(1 - skew)  # −q·g
    value = _dot(p, log_p.sub_(m.log_()))
    return value, q.mul_(share.sum(-1, keepdim=True)).sub_(share)


def _mixture(p: Tensor, q: Tensor, share: float) -> Tensor:
    import torch

    # Where both underflow to 0, log M must stay finite.
    return torch.lerp(q, p, share).clamp_(min=torch.finfo(p.dtype).tiny)


def _dot(x: Tensor, y: Tensor) -> Tensor:
    from torch.linalg import vecdot

    product: Tensor = vecdot(x, y)
    return product
