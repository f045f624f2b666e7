"""The chunked loss is the plain one: values and gradients against autograd over whole logits, in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, log_softmax

from midistill_tasks.distill import losses
from midistill_tasks.distill.divergences import make_divergence
from midistill_tasks.distill.losses import Head, Logits, TopK, distillation_loss
from midistill_tasks.errors import InputError

B, T, HIDDEN, TEACHER_HIDDEN, VOCAB = 3, 6, 5, 4, 11
NAMES = ("forward_kl", "reverse_kl", "jsd", "skew_kl")


def plain_divergence(name: str, teacher: Tensor, student: Tensor, temperature: float) -> Tensor:
    """[B,T] from logits, by the formulas over whole distributions."""
    log_p, log_q = log_softmax(teacher / temperature, -1), log_softmax(student / temperature, -1)
    p, q = log_p.exp(), log_q.exp()
    if name == "forward_kl":
        return (p * (log_p - log_q)).sum(-1)
    if name == "reverse_kl":
        return (q * (log_q - log_p)).sum(-1)
    if name == "jsd":
        m = 0.3 * p + 0.7 * q
        return (0.3 * p * (log_p - m.log()) + 0.7 * q * (log_q - m.log())).sum(-1)
    return (p * (log_p - (0.1 * p + 0.9 * q).log())).sum(-1)


def plain_loss(
    name: str, student: Tensor, teacher: Tensor, labels: Tensor, alpha: float = 0.4, temperature: float = 2.0
) -> Tensor:
    """The loss over whole logits, [B,T,V] each."""
    kept = labels[:, 1:] != -100
    rows = min(student.shape[-1], teacher.shape[-1])
    d = plain_divergence(name, teacher[:, :-1, :rows], student[:, :-1, :rows], temperature)[kept].mean()
    ce = cross_entropy(student[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)
    return (1 - alpha) * ce + alpha * temperature**2 * d


def chunked(name: str, student: Any, teacher: Any, labels: Tensor, **kwargs: Any) -> Tensor:
    divergence = make_divergence(name, beta=0.3, skew=0.1)
    return distillation_loss(
        student, teacher, labels, alpha=0.4, divergence=divergence, **{"temperature": 2.0, **kwargs}
    ).loss


class Case:
    """Random hidden states and heads; ``student_rows`` and ``teacher_rows`` of vocabulary."""

    def __init__(self, student_rows: int = VOCAB, teacher_rows: int = VOCAB, dtype: torch.dtype = torch.float64) -> None:
        generator = torch.Generator().manual_seed(0)

        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

        self.hidden, self.weight, self.bias = draw(B, T, HIDDEN), draw(student_rows, HIDDEN), draw(student_rows)
        self.teacher = Head(draw(B, T, TEACHER_HIDDEN), draw(teacher_rows, TEACHER_HIDDEN), draw(teacher_rows))
        self.labels = torch.randint(0, min(student_rows, teacher_rows), (B, T), generator=generator)
        self.labels[0, 4:] = -100  # padding
        self.labels[1, :3] = -100  # a masked beginning
        self.learnt = [x.requires_grad_() for x in (self.hidden, self.weight, self.bias)]

    @property
    def student(self) -> Head:
        return Head(self.hidden, self.weight, self.bias)

    @property
    def student_logits(self) -> Tensor:
        return self.hidden @ self.weight.t() + self.bias

    @property
    def teacher_logits(self) -> Tensor:
        return self.teacher.source @ self.teacher.weight.t() + self.teacher.bias


@pytest.fixture(autouse=True)
def _several_chunks_and_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "CHUNK_ELEMENTS", 4 * VOCAB)
    monkeypatch.setattr(losses, "BLOCK_ELEMENTS", 3 * VOCAB)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 3.5])
@pytest.mark.parametrize(("student_rows", "teacher_rows"), [(VOCAB, VOCAB), (VOCAB + 3, VOCAB), (VOCAB, VOCAB + 2)])
@pytest.mark.parametrize("name", NAMES)
def test_value_and_gradients_are_those_of_whole_logits(
    name: str, student_rows: int, teacher_rows: int, temperature: float
) -> None:
    case = Case(student_rows, teacher_rows)
    expected = plain_loss(name, case.student_logits, case.teacher_logits, case.labels, temperature=temperature)
    got = chunked(name, case.student, case.teacher, case.labels, temperature=temperature)
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)
    # Thrice the loss: the gradient that comes in must be applied.
    for mine, theirs in zip(
        torch.autograd.grad(3 * got, case.learnt), torch.autograd.grad(3 * expected, case.learnt), strict=True
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-12)
