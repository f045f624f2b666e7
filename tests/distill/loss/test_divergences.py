"""Each divergence against a plain float64 loop over its formula, and its gradient against autograd."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax

from midistill_tasks.methods import DIVERGENCES

NAMES = ("forward_kl", "reverse_kl", "jsd", "skew_kl")
BETA, SKEW = 0.3, 0.1


def options(name: str, beta: float = BETA) -> dict[str, float]:
    return {"jsd": {"beta": beta}, "skew_kl": {"skew": SKEW}}.get(name, {})


def kl(p: list[float], q: list[float]) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


def by_loop(name: str, p: list[float], q: list[float]) -> float:
    """The papers' formulas, one token at a time."""
    if name == "forward_kl":
        return kl(p, q)
    if name == "reverse_kl":
        return kl(q, p)
    if name == "skew_kl":
        return kl(p, [SKEW * a + (1 - SKEW) * b for a, b in zip(p, q, strict=True)])
    m = [BETA * a + (1 - BETA) * b for a, b in zip(p, q, strict=True)]
    return BETA * kl(p, m) + (1 - BETA) * kl(q, m)


def generalized_jsd(student: Tensor, teacher: Tensor, beta: float, temperature: float) -> Tensor:
    """TRL's ``GKDTrainer.generalized_jsd_loss``, re-derived: [B,T,V] twice → its mean over tokens.

    β 0 is forward KL and β 1 reverse KL by definition; in between the mixture gives the teacher the share β.
    """
    log_q, log_p = log_softmax(student / temperature, -1), log_softmax(teacher / temperature, -1)
    if beta == 0:
        value = kl_div(log_q, log_p, reduction="none", log_target=True)
    elif beta == 1:
        value = kl_div(log_p, log_q, reduction="none", log_target=True)
    else:
        log_m = torch.logsumexp(torch.stack([log_q + math.log1p(-beta), log_p + math.log(beta)]), dim=0)
        of_teacher = kl_div(log_m, log_p, reduction="none", log_target=True)
        value = beta * of_teacher + (1 - beta) * kl_div(log_m, log_q, reduction="none", log_target=True)
    return value.sum() / value.shape[0] / value.shape[1]


def draw(dtype: torch.dtype = torch.float64, scale: float = 2.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    student, teacher = (scale * torch.randn(4, 9, generator=generator, dtype=torch.float64) for _ in range(2))
    return student.to(dtype), teacher.to(dtype)


def evaluate(name: str, student: Tensor, teacher: Tensor, beta: float = BETA) -> tuple[Tensor, Tensor]:
    log_q, log_p = log_softmax(student, -1), log_softmax(teacher, -1)
    return DIVERGENCES[name](log_p.exp(), log_p.clone(), log_q.exp(), log_q.clone(), **options(name, beta))


@pytest.mark.parametrize("name", NAMES)
def test_value_is_that_of_a_plain_loop(name: str) -> None:
    student, teacher = draw()
    value, _ = evaluate(name, student, teacher)
    for row, p, q in zip(value.tolist(), teacher.softmax(-1).tolist(), student.softmax(-1).tolist(), strict=True):
        assert row == pytest.approx(by_loop(name, p, q), rel=1e-12)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize(("name", "beta"), [("forward_kl", 0.0), ("reverse_kl", 1.0), ("jsd", 0.1), ("jsd", 0.5)])
def test_value_is_that_of_trl(name: str, beta: float, temperature: float) -> None:
    student, teacher = draw()
    value, _ = evaluate(name, student / temperature, teacher / temperature, beta)
    expected = generalized_jsd(student.view(2, 2, 9), teacher.view(2, 2, 9), beta, temperature)
    torch.testing.assert_close(value.mean(), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_gradient_is_that_of_autograd_and_in_the_memory_of_q(name: str) -> None:
    student, teacher = draw()
    p, q_logits = teacher.softmax(-1), student.clone().requires_grad_()
    q = q_logits.softmax(-1)
    m = {"jsd": BETA, "skew_kl": SKEW}.get(name, 0.0) * p + (1 - {"jsd": BETA, "skew_kl": SKEW}.get(name, 0.0)) * q
    plain = {
        "forward_kl": p * (p / q).log(),
        "reverse_kl": q * (q / p).log(),
        "jsd": BETA * p * (p / m).log() + (1 - BETA) * q * (q / m).log(),
        "skew_kl": p * (p / m).log(),
    }[name].sum()
    (expected,) = torch.autograd.grad(plain, q_logits)
    memory = q.detach().clone()
    log_q = log_softmax(student, -1)
    _, gradient = DIVERGENCES[name](p.clone(), p.log(), memory, log_q, **options(name))
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-12)
    assert gradient.data_ptr() == memory.data_ptr()  # the caller overwrites what held log q


@pytest.mark.parametrize("name", ["forward_kl", "jsd", "skew_kl"])
def test_probabilities_that_underflow_leave_it_finite(name: str) -> None:
    student, teacher = draw(torch.float32, scale=200.0)
    value, gradient = evaluate(name, student, teacher)
    assert value.isfinite().all()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_equal_distributions_are_at_no_distance(name: str) -> None:
    student, _ = draw()
    value, gradient = evaluate(name, student, student)
    torch.testing.assert_close(value, torch.zeros(4, dtype=torch.float64), atol=1e-14, rtol=0)
    torch.testing.assert_close(gradient, torch.zeros_like(student), atol=1e-14, rtol=0)
