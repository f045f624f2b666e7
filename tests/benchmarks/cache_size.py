"""What the teacher's cache costs on disk for each k and number of draws, and how far the divergence from it is off.

    python tests/benchmarks/cache_size.py MODEL [GGUF_FILE]

Teacher: MODEL on biographies (`bios`). Students: the same model with noise in its weights, close to it and far from it.
Of draws the table has the mean of several seeds and, after ±, what one seed is off by beside that (standard deviation).
"""

from __future__ import annotations

import copy
import statistics
import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from midistill_tasks.distill.cache.layouts import Layout, Rounded, Sampled
from midistill_tasks.distill.data import encode
from midistill_tasks.distill.loss.engine import distillation_loss
from midistill_tasks.distill.loss.sources import Logits, Source
from midistill_tasks.models.batching import pad
from midistill_tasks.splits.bios import biographies

TEXTS, LENGTH, KS, SAMPLES, SEEDS = 4, 64, (8, 32, 128, 1024), (25, 50, 96), 4
NOISE = {"near": 0.1, "far": 0.3}
"""Standard deviation of the noise, in those of each weight matrix."""
TEMPERATURES = (1.0, 2.0)

Found = dict[str, tuple[int, list[float]]]
"""Row → bytes a token, and the divergence, for draws of each seed."""


def layouts(vocab: int, temperature: float) -> dict[str, list[Layout]]:
    """Row → the layouts that it is of."""
    tops: dict[str, list[Layout]] = {f"k {k}": [Rounded(k, temperature, vocab)] for k in KS}
    return tops | {f"samples {n}": [Sampled(n, seed, temperature, vocab) for seed in range(SEEDS)] for n in SAMPLES}


def kept(layout: Layout, theirs: Tensor, ids: Sequence[Sequence[int]]) -> Source:
    """What the loss has of whole logits [B, T, V] by way of the disk; padding as it comes."""
    rows = [[*row, *[0] * (theirs.shape[1] + 1 - len(row))] for row in ids]
    arrays = [layout.arrays(logits, row) for logits, row in zip(theirs, rows, strict=True)]
    return layout.source({name: torch.stack([each[name] for each in arrays]) for name in layout.names}, theirs.shape[2])


def divergences(model: Any, ids: list[list[int]], noise: float, temperature: float) -> tuple[float, Found]:
    """Forward KL from all the teacher's logits, and from what each cache has of them."""
    student = copy.deepcopy(model)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(noise * parameter.std().nan_to_num() * torch.randn_like(parameter))
    batch = pad(ids, 0)
    with torch.inference_mode():
        theirs, ours = model(**batch).logits.float(), student(**batch).logits.float()
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)

    def against(teacher: Source) -> float:
        with torch.no_grad():
            return float(distillation_loss(Logits(ours), teacher, labels, temperature=temperature).divergence)

    found = {
        row: (each[0].bytes_a_token, [against(kept(layout, theirs, ids)) for layout in each])
        for row, each in layouts(theirs.shape[-1], temperature).items()
    }
    return against(Logits(theirs)), found


def off(values: Sequence[float], whole: float) -> str:
    """In percent."""
    shares = [100 * (value / whole - 1) for value in values]
    spread = f" ± {statistics.stdev(shares):.1f}" if len(shares) > 1 else ""
    return f"{statistics.mean(shares):+.1f} %{spread}"


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
    print(f"| kept | bytes a token | {heads} |")
    print("|---|---|" + "---|" * len(found))
    for row, (size, _) in next(iter(found.values()))[1].items():
        shown = " | ".join(off(each[row][1], whole) for whole, each in found.values())
        print(f"| {row} | {size} | {shown} |")


if __name__ == "__main__":
    main()
