"""The chunked loss is the plain one: values and gradients against autograd over whole logits, in float64."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, log_softmax

from midistill_tasks.distill.loss import engine as losses
from midistill_tasks.distill.loss.engine import distillation_loss
from midistill_tasks.distill.loss.sources import Head, Logits, TopK
from midistill_tasks.errors import InputError
from midistill_tasks.methods import DIVERGENCES

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
    options = {"jsd": {"beta": 0.3}, "skew_kl": {"skew": 0.1}}.get(name, {})
    divergence = partial(DIVERGENCES[name], **options)
    return distillation_loss(
        student, teacher, labels, alpha=0.4, divergence=divergence, **{"temperature": 2.0, **kwargs}
    ).loss


class Case:
    """Random hidden states and heads; ``student_rows`` and ``teacher_rows`` of vocabulary."""

    def __init__(
        self, student_rows: int = VOCAB, teacher_rows: int = VOCAB, dtype: torch.dtype = torch.float64
    ) -> None:
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


@pytest.mark.parametrize("name", NAMES)
def test_given_logits_are_treated_alike(name: str) -> None:
    case = Case(VOCAB + 3, VOCAB)
    logits = case.student_logits.detach().requires_grad_()
    expected = plain_loss(name, logits, case.teacher_logits, case.labels)
    got = chunked(name, Logits(logits), Logits(case.teacher_logits), case.labels)
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)
    (mine,), (theirs,) = torch.autograd.grad(got, logits), torch.autograd.grad(expected, logits)
    torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("extra_rows", [0, 3])
def test_smoothed_labels_are_torchs(extra_rows: int) -> None:
    case = Case(VOCAB + extra_rows, VOCAB)
    got = distillation_loss(case.student, None, case.labels, alpha=0.0, label_smoothing=0.2).loss
    expected = cross_entropy(
        case.student_logits[:, :-1].flatten(0, 1), case.labels[:, 1:].flatten(), ignore_index=-100, label_smoothing=0.2
    )
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)
    for mine, theirs in zip(
        torch.autograd.grad(got, case.learnt), torch.autograd.grad(expected, case.learnt), strict=True
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-12)


def test_without_ce_the_divergence_alone_is_left() -> None:
    case = Case()
    whole, alone = (
        distillation_loss(case.student, case.teacher, case.labels, alpha=0.4, with_ce=with_ce)
        for with_ce in (True, False)
    )
    assert alone.divergence == whole.divergence
    assert float(alone.ce) == 0
    torch.testing.assert_close(alone.loss, 0.4 * 4 * whole.divergence, rtol=1e-12, atol=0)
    torch.testing.assert_close(whole.loss - alone.loss, 0.6 * whole.ce, rtol=1e-9, atol=0)
    of_d = torch.autograd.grad(alone.loss, case.learnt)
    expected = torch.autograd.grad(
        0.4
        * 4
        * plain_divergence("forward_kl", case.teacher_logits[:, :-1], case.student_logits[:, :-1], 2.0)[
            case.labels[:, 1:] != -100
        ].mean(),
        case.learnt,
    )
    for mine, theirs in zip(of_d, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-12)


def test_one_text_at_a_time_gives_the_batch_s_sums() -> None:
    """By the formula, in plain loops over the tokens that count."""
    case = Case()
    got = distillation_loss(case.student, case.teacher, case.labels, alpha=0.4)
    ce, d, count = 0.0, 0.0, 0
    student, teacher = case.student_logits.detach(), case.teacher_logits
    for text in range(B):
        for t in range(T - 1):
            label = int(case.labels[text, t + 1])
            if label == -100:
                continue
            count += 1
            ce -= float(student[text, t].softmax(-1)[label].log())
            p, q = (teacher[text, t] / 2).softmax(-1), (student[text, t] / 2).softmax(-1)
            d += sum(float(a * (a / b).log()) for a, b in zip(p, q, strict=True))
    assert count == 11
    assert float(got.ce) == pytest.approx(ce / count, rel=1e-10)
    assert float(got.divergence) == pytest.approx(d / count, rel=1e-10)
    assert got.loss.item() == pytest.approx((0.6 * ce + 0.4 * 4 * d) / count, rel=1e-10)


def test_what_stands_under_the_mask_does_not_matter() -> None:
    case = Case()
    before = chunked("jsd", case.student, case.teacher, case.labels)
    hidden = case.hidden.detach().clone()
    hidden[0, 3:] = 1e6  # the logits at 3 would meet the label at 4, which is masked
    after = chunked("jsd", Head(hidden, case.weight, case.bias), case.teacher, case.labels)
    torch.testing.assert_close(after, before, rtol=0, atol=0)


def top_k(case: Case, k: int, temperature: float = 2.0) -> TopK:
    logits, ids = case.teacher_logits.topk(k, -1)
    return TopK(logits, ids, (case.teacher_logits / temperature).logsumexp(-1), case.teacher.vocab)


@pytest.mark.parametrize("student_rows", [VOCAB, VOCAB + 3])
@pytest.mark.parametrize("name", NAMES)
def test_a_cache_of_the_whole_vocabulary_is_the_whole_teacher(name: str, student_rows: int) -> None:
    case = Case(student_rows, VOCAB)
    expected = chunked(name, case.student, case.teacher, case.labels)
    got = chunked(name, case.student, top_k(case, VOCAB), case.labels)
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)
    for mine, theirs in zip(
        torch.autograd.grad(got, case.learnt), torch.autograd.grad(expected, case.learnt), strict=True
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("student_rows", [VOCAB, VOCAB + 3])
@pytest.mark.parametrize("name", NAMES)
def test_a_cached_top_k_compares_the_rest_as_one_bucket(name: str, student_rows: int) -> None:
    case = Case(student_rows, VOCAB)
    cache = top_k(case, 4)
    student, teacher = case.student_logits, case.teacher_logits

    def buckets(logits: Tensor) -> Tensor:
        p = (logits[..., :VOCAB] / 2).softmax(-1)
        top = p.gather(-1, cache.ids)
        return torch.cat([top, 1 - top.sum(-1, keepdim=True)], -1).log()  # logits of k + 1 outcomes

    kept = case.labels[:, 1:] != -100
    d = plain_divergence(name, buckets(teacher)[:, :-1], buckets(student)[:, :-1], 1.0)[kept].mean()
    ce = cross_entropy(student[:, :-1].flatten(0, 1), case.labels[:, 1:].flatten())
    expected = 0.6 * ce + 0.4 * 4 * d
    got = chunked(name, case.student, cache, case.labels)
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)
    for mine, theirs in zip(
        torch.autograd.grad(got, case.learnt), torch.autograd.grad(expected, case.learnt), strict=True
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-12)


def test_a_top_k_that_holds_all_probability_stays_finite() -> None:
    case = Case(dtype=torch.float32)
    sure = Logits(torch.nn.functional.one_hot(case.labels.clamp(min=0), VOCAB).float() * 100)
    logits, ids = sure.source.topk(2, -1)
    cache = TopK(logits, ids, (sure.source / 2).logsumexp(-1), VOCAB)
    for name in NAMES:
        got = chunked(name, case.student, cache, case.labels)
        assert got.isfinite()
        assert all(g.isfinite().all() for g in torch.autograd.grad(got, case.learnt))


def test_a_cache_over_more_tokens_than_the_student_has_is_refused() -> None:
    case = Case(VOCAB, VOCAB + 2)
    with pytest.raises(InputError, match="vocabulary of 13 is larger than the student's of 11"):
        distillation_loss(case.student, top_k(case, 4), case.labels)


def test_teacher_logits_of_minus_infinity_are_legal() -> None:
    case = Case()
    red = case.teacher_logits.index_fill(-1, torch.tensor([2, 5]), float("-inf"))
    large = case.teacher_logits.index_fill(-1, torch.tensor([2, 5]), -1e4)
    for name in ("forward_kl", "jsd", "skew_kl"):
        got = chunked(name, case.student, Logits(red), case.labels)
        torch.testing.assert_close(got, chunked(name, case.student, Logits(large), case.labels))


def test_without_a_teacher_it_is_cross_entropy() -> None:
    case = Case()
    got = distillation_loss(case.student, None, case.labels, alpha=0.0)
    expected = cross_entropy(case.student_logits[:, :-1].flatten(0, 1), case.labels[:, 1:].flatten())
    torch.testing.assert_close(got.loss, expected)
    for mine, theirs in zip(
        torch.autograd.grad(got.loss, case.learnt), torch.autograd.grad(expected, case.learnt), strict=True
    ):
        torch.testing.assert_close(mine, theirs)


def test_accumulated_batches_are_divided_by_their_total() -> None:
    case = Case()
    whole = distillation_loss(case.student, case.teacher, case.labels)
    parts = []
    for text in range(B):
        student = Head(case.hidden[text : text + 1], case.weight, case.bias)
        teacher = case.teacher._replace(source=case.teacher.source[text : text + 1])
        parts.append(distillation_loss(student, teacher, case.labels[text : text + 1], n_tokens=torch.tensor(11)).loss)
    torch.testing.assert_close(sum(parts), whole.loss)


def test_a_batch_without_a_label_costs_nothing() -> None:
    case = Case()
    got = distillation_loss(case.student, case.teacher, torch.full_like(case.labels, -100)).loss
    assert got.item() == 0
    assert not any(g.any() for g in torch.autograd.grad(got, case.learnt))


def test_frozen_parts_get_no_gradient() -> None:
    case = Case()
    frozen = Head(case.hidden, case.weight.detach(), None)
    distillation_loss(frozen, case.teacher, case.labels).loss.backward()
    assert case.hidden.grad is not None
    assert case.weight.grad is None
    with torch.no_grad():
        assert not distillation_loss(case.student, case.teacher, case.labels).loss.requires_grad


def test_a_second_backward_is_refused_not_wrong() -> None:
    case = Case()
    got = distillation_loss(case.student, case.teacher, case.labels).loss
    got.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="backward ran twice"):
        got.backward()


def test_texts_of_another_length_are_refused_not_mixed_up() -> None:
    case = Case()
    with pytest.raises(ValueError, match=r"share \[B,T\]"):
        distillation_loss(case.student, case.teacher, case.labels[:, :-1])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_as_near_as_plain_half_precision(dtype: torch.dtype) -> None:
    exact, half = Case(), Case(dtype=dtype)
    expected = plain_loss("forward_kl", exact.student_logits, exact.teacher_logits, exact.labels)
    got = chunked("forward_kl", half.student, half.teacher, half.labels)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got.double(), expected, rtol=2e-2, atol=0)
    for mine, theirs in zip(
        torch.autograd.grad(got, half.learnt), torch.autograd.grad(expected, exact.learnt), strict=True
    ):
        assert mine.dtype == dtype
        assert (mine.double() - theirs).norm() < 2e-2 * theirs.norm()


def test_autocast_computes_the_head_in_its_type_and_answers_in_the_weights() -> None:
    case = Case(dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = chunked("forward_kl", case.student, case.teacher, case.labels)
    half = chunked("forward_kl", *(Head(*(x.bfloat16() for x in h)) for h in (case.student, case.teacher)), case.labels)
    torch.testing.assert_close(got, half, rtol=0, atol=0)
    assert all(g.dtype == torch.float32 for g in torch.autograd.grad(got, case.learnt))


def test_compat_paper_repeats_the_published_code_s_mistakes() -> None:
    """CE of the logits at t against the label at t; KL over every position, padding too, divided by the texts only."""
    case = Case()
    got = distillation_loss(case.student, case.teacher, case.labels, alpha=0.4, compat="paper")
    student, teacher = case.student_logits, case.teacher_logits
    ce = cross_entropy(student.flatten(0, 1), case.labels.flatten())
    d = plain_divergence("forward_kl", teacher, student, 2.0).sum() / B
    expected = 0.6 * ce + 0.4 * 4 * d
    torch.testing.assert_close(got.loss, expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(got.divergence, d.detach(), rtol=1e-6, atol=0)
    for mine, theirs in zip(
        torch.autograd.grad(got.loss, case.learnt), torch.autograd.grad(expected, case.learnt), strict=True
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-9)


def test_what_compat_paper_does_wrong() -> None:
    """A student that repeats its input pleases the published CE, and the KL grows with the length of the texts."""
    labels = torch.randint(0, VOCAB, (B, T), generator=torch.Generator().manual_seed(0))
    repeats = Logits(20.0 * torch.nn.functional.one_hot(labels, VOCAB))
    assert float(distillation_loss(repeats, None, labels, alpha=0.0, compat="paper").ce) < 1e-6
    assert float(distillation_loss(repeats, None, labels, alpha=0.0).ce) > 10
    case = Case()
    one_token = [Logits(logits[:, :1].detach()) for logits in (case.student_logits, case.teacher_logits)]
    means = {}
    for length in (2, 4):
        same = [Logits(x.source.expand(-1, length, -1)) for x in one_token]  # the same distance at every position
        for compat in ("paper", None):
            zeros = torch.zeros(B, length, dtype=torch.long)
            means[length, compat] = float(distillation_loss(*same, zeros, compat=compat).divergence)
    assert means[4, None] == pytest.approx(means[2, None])
    assert means[4, "paper"] == pytest.approx(2 * means[2, "paper"])
    assert means[4, "paper"] == pytest.approx(4 * means[4, None])
