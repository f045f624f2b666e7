"""What the teacher's cache costs on disk for each k, and how far the divergence from it is off.

    python tests/benchmarks/cache_size.py MODEL [GGUF_FILE]

Teacher: MODEL on biographies (`bios`). Students: the same model with noise in its weights, close to it and far from it.
"""

from __future__ import annotations

import copy
import sys
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from midistill_tasks.distill.data import encode
from midistill_tasks.distill.loss.engine import distillation_loss
from midistill_tasks.distill.loss.sources import Logits, TopK
from midistill_tasks.distill.teacher_cache import bytes_needed
from midistill_tasks.models.batching import pad
from midistill_tasks.splits.bios import biographies

TEXTS, LENGTH, KS = 8, 128, (8, 32, 128, 1024)
NOISE = {"near": 0.1, "far": 0.3}
"""Standard deviation of the noise, in those of each weight matrix."""
TEMPERATURES = (1.0, 2.0)


def divergences(model: Any, ids: list[list[int]], noise: float, temperature: float) -> tuple[float, dict[int, float]]:
    """Forward KL from all the teacher's logits, and from its k largest."""
    student = copy.deepcopy(model)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(noise * parameter.std().nan_to_num() * torch.randn_like(parameter))
    batch = pad(ids, 0)
    with torch.inference_mode():
        theirs, ours = model(**batch).logits.float(), student(**batch).logits.float()
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    lse = (theirs / temperature).logsumexp(-1)

    def against(teacher: Any) -> float:
        return float(distillation_loss(Logits(ours), teacher, labels, temperature=temperature).divergence)

    tops = {k: theirs.topk(k, dim=-1) for k in KS}
    vocab = theirs.shape[-1]
    return against(Logits(theirs)), {k: against(TopK(top.values, top.indices, lse, vocab)) for k, top in tops.items()}


def main() -> None:
    """Prints the table."""
    name, *gguf = sys.argv[1:]
    kwargs = {"gguf_file": gguf[0]} if gguf else {}
    model = AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32, **kwargs).eval()
    ids = encode(biographies(TEXTS), AutoTokenizer.from_pretrained(name, **kwargs), LENGTH).ids
    found = {
        f"{student} student, T = {temperature:g}": divergences(model, ids, noise, temperature)
        for student, noise in NOISE.items()
        for temperature in TEMPERATURES
    }
    heads = " | ".join(f"{name} (D {whole:.3f})" for name, (whole, _) in found.items())
    print(f"| k | bytes a token | {heads} |")
    print("|---|---|" + "---|" * len(found))
    for k in KS:
        off = " | ".join(f"{100 * (top[k] / whole - 1):+.1f} %" for whole, top in found.values())
        print(f"| {k} | {bytes_needed([2], k)} | {off} |")


if __name__ == "__main__":
    main()
