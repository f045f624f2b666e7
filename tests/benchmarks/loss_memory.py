"""Peak memory of the distillation loss and of the plain one; imports little, as each is measured in a fresh process."""

from __future__ import annotations

from pathlib import Path

import torch
from common import in_fresh_process
from torch import Tensor
from torch.nn import functional as F

from midistill_tasks.distill.loss.engine import distillation_loss
from midistill_tasks.distill.loss.sources import Head


def memory_ratios(vocab: int, width: int, texts: int, length: int) -> list[float] | str:
    """Peak memory of loss and backward over that of hidden states and heads, ours / full logits."""
    if not Path("/proc/self/status").is_file():
        return "it needs Linux's /proc"
    ours, plain = (in_fresh_process(peak_of, name, vocab, width, texts, length) for name in ("ours", "plain"))
    return [ours / plain]


def peak_of(name: str, vocab: int, width: int, texts: int, length: int) -> int:
    """kB by which the resident memory of this fresh process has ever exceeded what held hidden states and heads."""
    hidden, of_teacher = torch.randn(texts, length, width, requires_grad=True), torch.randn(texts, length, width)
    head, of_teacher_head = torch.randn(vocab, width, requires_grad=True), torch.randn(vocab, width)
    labels = torch.randint(vocab, (texts, length))
    before = _status("VmRSS")
    if name == "ours":
        distillation_loss(Head(hidden, head), Head(of_teacher, of_teacher_head), labels).loss.backward()
    else:
        full_kl(hidden @ head.t(), of_teacher @ of_teacher_head.t()).backward()
    return _status("VmHWM") - before


def full_kl(student: Tensor, teacher: Tensor, temperature: float = 2.0) -> Tensor:
    """T²·KL of whole logits [B,T,V], and no CE: what our loss does beyond it counts against ours."""
    p = F.log_softmax(teacher / temperature, -1).flatten(0, 1)
    q = F.log_softmax(student / temperature, -1).flatten(0, 1)
    return temperature**2 * F.kl_div(q, p, reduction="batchmean", log_target=True)


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))
