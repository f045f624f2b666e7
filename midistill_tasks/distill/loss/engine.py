"""The distillation loss (1−α)·CE + α·T²·D, with head and loss in chunks of tokens.

Two [B,T,V] tensors, or one, are never made: for each chunk of tokens the logits of student and teacher, the loss and
its gradient with respect to hidden states and head are worked out by hand, and the chunk is forgotten. Where the
teacher's distribution comes from is one of `sources`; D is one of `divergences`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from midistill_tasks.distill.loss.divergences import forward_kl
from midistill_tasks.distill.loss.sources import Head, Logits, Samples, Source, TopK, log_sum_exp
from midistill_tasks.errors import InputError
from midistill_tasks.methods import Divergence

CHUNK_ELEMENTS = 2**24
"""Logits per chunk: so many that adding to the head's gradient costs little beside the product that is added."""

BLOCK_ELEMENTS = 2**21
"""Logits per block on a CPU: what stays in its cache while a dozen operations pass over it."""


class DistillationLoss(NamedTuple):
    """``loss`` carries the gradient; ``ce`` and ``divergence`` are its terms without their weights, for the log."""

    loss: Tensor
    ce: Tensor
    divergence: Tensor


def distillation_loss(
    student: Head | Logits,
    teacher: Source | None,
    labels: Tensor,
    *,
    alpha: float = 0.5,
    temperature: float = 2.0,
    divergence: Divergence = forward_kl,
    n_tokens: int | Tensor | None = None,
    label_smoothing: float = 0.0,
    with_ce: bool = True,
    compat: Literal["paper"] | None = None,
    per_text: bool = False,
) -> DistillationLoss:
    """(1−α)·CE(student, next token) + α·T²·D(teacher, student, both at T), mean per token.

    CE runs over the student's whole vocabulary, D over the rows that both models have (heads are padded differently),
    each distribution renormalised there. Backward works once, like that of any graph.

    Args:
        student: of B texts of T tokens; the gradient goes to its hidden states and head, or to its logits.
        teacher: the same texts, never differentiated; None leaves D out (it counts as 0).
        labels: [B,T] token ids, −100 where nothing is to be learnt; the logits at t meet the label at t+1.
        alpha: α in [0, 1].
        temperature: T > 0.
        divergence: D, of `divergences`, its options bound.
        n_tokens: what the sums are divided by; by default the labels that count here. With batches accumulated or
            spread over processes: their total.
        label_smoothing: ε in [0, 1): CE is against 1−ε of the label and ε spread evenly over the whole vocabulary.
        with_ce: False leaves CE out (it counts as 0): of texts whose next tokens are no labels.
        compat: "paper" reproduces the published code of arXiv 2505.11837: CE against the label at t itself, which
            teaches the model to repeat its input, and D summed over all T positions, padding too, and divided by B,
            so that it outweighs CE the more, the longer the texts are.
        per_text: sum the means of the texts instead of the tokens: a text's part then depends on no other text, which
            DP-SGD needs; `n_tokens` is how many such parts make one.

    Raises:
        InputError: a cached teacher has a larger vocabulary than the student.
    """
    if isinstance(teacher, TopK | Samples) and teacher.vocab > student.vocab:
        raise InputError(
            f"teacher cache: its vocabulary of {teacher.vocab} is larger than the student's of {student.vocab}; "
            "write it again over the tokens that the tokenizer has"
        )
    if isinstance(teacher, Samples) and getattr(divergence, "func", divergence) is not forward_kl:
        raise ValueError("draws of the teacher's distribution give forward KL only")
    if any(s is not None and s.source.shape[:2] != labels.shape for s in (student, teacher)):
        raise ValueError("student, teacher and labels must share [B,T]")
    rows, targets, ce_weight, d_weight = _positions(labels, compat, per_text)
    job = _Job(
        student, teacher, rows, targets, ce_weight if with_ce else torch.zeros_like(ce_weight), d_weight, 1 - alpha,
        alpha * temperature**2, temperature, divergence, label_smoothing,
    )  # fmt: skip
    weight, bias = (student.weight, student.bias) if isinstance(student, Head) else (None, None)
    wanted = torch.is_grad_enabled()
    sums = _ChunkedLoss.apply(student.source, weight, bias, job, wanted)  # type: ignore[no-untyped-call]
    count = ce_weight.sum().clamp(min=1) if n_tokens is None else n_tokens
    return DistillationLoss(*(x / count for x in sums))


def _positions(labels: Tensor, compat: str | None, per_text: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Flat positions of the logits that count, their targets, and what each weighs in the sums of CE and of D: [n]."""
    if compat == "paper":
        texts = (labels != -100).any(1)  # without those that fill up a batch
        rows = texts.repeat_interleave(labels.shape[1]).nonzero()[:, 0]
        flat = labels.flatten()[rows]
        counts = (flat != -100).float()
        of_text = counts.sum() / texts.sum()  # the sums are divided by the number of labels afterwards
        return rows, flat.clamp(min=0), counts, of_text.expand(len(flat))
    shifted = torch.nn.functional.pad(labels[:, 1:], (0, 1), value=-100).flatten()
    rows = (shifted != -100).nonzero()[:, 0]
    weight = torch.ones(len(rows), device=labels.device)
    if per_text:
        text = rows // labels.shape[1]
        weight /= text.bincount(minlength=len(labels))[text]
    return rows, shifted[rows], weight, weight


@dataclass(frozen=True)
class _Job:
    student: Head | Logits
    teacher: Source | None
    rows: Tensor
    targets: Tensor
    ce_weight: Tensor
    d_weight: Tensor
    ce_scale: float
    d_scale: float
    temperature: float
    divergence: Divergence
    smoothing: float


class _ChunkedLoss(torch.autograd.Function):
    """Sums over the positions of the loss, CE and D. The gradient is worked out in ``forward``, with the logits."""

    @staticmethod
    def forward(
        ctx: Any, source: Tensor, weight: Tensor | None, bias: Tensor | None, job: _Job, wanted: bool
    ) -> tuple[Tensor, ...]:
        needs = [wanted and need for need in ctx.needs_input_grad[:3]]
        device = source.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        with torch.autocast(device, enabled=False):
            sums, ctx.gradients = _run(job, needs, dtype)
        ctx.dtypes = [
            source.dtype,
            weight.dtype if weight is not None else None,
            bias.dtype if bias is not None else None,
        ]
        ctx.mark_non_differentiable(sums[1], sums[2])
        return sums

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_loss: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        gradients, ctx.gradients = ctx.gradients, None
        if gradients is None:
            raise RuntimeError("distillation_loss: backward ran twice, but its gradient is kept for one run")
        scaled = (g if g is None else g.mul_(of_loss).to(t) for g, t in zip(gradients, ctx.dtypes, strict=True))
        return (*scaled, None, None)


def _run(job: _Job, needs: list[bool], autocast: torch.dtype | None) -> tuple[tuple[Tensor, ...], list[Tensor | None]]:
    student, teacher = _cast(job.student, autocast), _cast(job.teacher, autocast)
    common = student.vocab if teacher is None else min(student.vocab, teacher.vocab)
    dtype = torch.promote_types(student.source.dtype, torch.float32)
    size = max(1, min(len(job.rows), CHUNK_ELEMENTS // student.vocab))
    block_rows = max(1, BLOCK_ELEMENTS // student.vocab) if student.source.device.type == "cpu" else size
    a = student.source.new_empty((size, student.vocab), dtype=dtype)
    b = student.source.new_empty((size, common if teacher is not None else 0), dtype=dtype)
    gradients = _zero_gradients(student, needs, dtype)
    sums = student.source.new_zeros(3, dtype=dtype)
    for chunk in _slices(len(job.rows), size):
        rows = job.rows[chunk]
        (scaled,) = student.part(rows, job.temperature, a[: len(rows)])
        part = () if teacher is None else teacher.part(rows, job.temperature, b[: len(rows)])
        for block in _slices(len(rows), block_rows):
            positions = slice(chunk.start + block.start, chunk.start + block.stop)
            sums += _block(job, scaled[block], tuple(x[block] for x in part), positions, common)
        _add_gradients(student, gradients, rows, scaled, job.temperature)
    return tuple(sums), gradients


def _block(job: _Job, a: Tensor, part: tuple[Tensor, ...], positions: slice, common: int) -> Tensor:
    """Sums of loss, CE and D over a block; overwrites ``a`` [n, V], logits / T, with the gradient for it."""
    targets = job.targets[positions, None]
    ce_weight, d_weight = (w[positions].to(a.dtype) for w in (job.ce_weight, job.d_weight))
    d_rows, d_gradient = a.new_zeros(len(a)), None
    q = torch.softmax(a[:, :common], -1)
    a.sub_(log_sum_exp(a[:, :common], q))
    scaled = a * job.temperature
    r = torch.softmax(scaled, -1)
    ce_rows = (log_sum_exp(scaled, r) - scaled.gather(1, targets))[:, 0]
    if job.smoothing:  # Σ_v (ε/V − ε·[v is the label])·(−z_v) more
        ce_rows += job.smoothing * (scaled.gather(1, targets)[:, 0] - scaled.mean(-1))
    if job.teacher is not None:
        d_rows, d_gradient = job.teacher.compare(part, q, a[:, :common], job.divergence)
    ce, d = ce_weight @ ce_rows, d_weight @ d_rows
    of_ce = (ce_weight * (job.ce_scale * job.temperature))[:, None]
    torch.mul(r, of_ce, out=a).scatter_add_(1, targets, (job.smoothing - 1) * of_ce)
    if job.smoothing:
        a.sub_(of_ce * (job.smoothing / a.shape[1]))
    if d_gradient is not None:
        a[:, :common].addcmul_(d_gradient, (d_weight * job.d_scale)[:, None])
    return torch.stack([job.ce_scale * ce + job.d_scale * d, ce, d])


def _add_gradients(
    student: Head | Logits, gradients: list[Tensor | None], rows: Tensor, g: Tensor, temperature: float
) -> None:
    """Carries the gradient ``g`` [n, V] for logits / T on to what is learnt."""
    of_source, of_weight, of_bias = gradients
    if isinstance(student, Logits):
        if of_source is not None:
            of_source.flatten(0, 1)[rows] = (g / temperature).to(of_source.dtype)
        return
    if of_bias is not None:
        of_bias.add_(g.sum(0), alpha=1 / temperature)
    g = g.to(student.weight.dtype)
    if of_source is not None:
        of_source.flatten(0, 1)[rows] = (g @ student.weight).to(of_source.dtype) / temperature
    if of_weight is not None:
        hidden = student.source.flatten(0, 1)[rows]
        if of_weight.dtype == g.dtype:
            of_weight.addmm_(g.t(), hidden, alpha=1 / temperature)
        else:
            of_weight.add_(g.t() @ hidden, alpha=1 / temperature)


def _zero_gradients(student: Head | Logits, needs: list[bool], dtype: torch.dtype) -> list[Tensor | None]:
    """For source, weight and bias; those of the head are sums over all tokens, so they are kept in ``dtype``."""
    weight, bias = (student.weight, student.bias) if isinstance(student, Head) else (None, None)
    kinds = ((student.source, student.source.dtype), (weight, dtype), (bias, dtype))
    return [
        torch.zeros_like(x, dtype=t, memory_format=torch.contiguous_format) if need and x is not None else None
        for (x, t), need in zip(kinds, needs, strict=True)
    ]


def _cast(source: Any, dtype: torch.dtype | None) -> Any:
    """A Head in autocast's type, as the model's own forward would compute it."""
    if dtype is None or not isinstance(source, Head):
        return source
    bias = None if source.bias is None else source.bias.to(dtype)
    return Head(source.source.to(dtype), source.weight.to(dtype), bias)


def _slices(n: int, size: int) -> Iterator[slice]:
    return (slice(i, min(i + size, n)) for i in range(0, n, size))
