"""On-policy distillation: the teacher's distributions on what the student itself writes.

Source: Agarwal et al., "On-Policy Distillation of Language Models" (GKD, arXiv 2306.13649), whose λ is
``loss.on_policy``. As there, such a batch teaches by D alone: its next tokens are the student's own, no labels.
"""

from __future__ import annotations

import random
from typing import Any

import torch
from torch import Tensor

from midistill_tasks.distill.data import IGNORED
from midistill_tasks.distill.sampling.sample import sample, seed_of


def is_on_policy(share: float, seed: int, step: int) -> bool:
    """Whether the step is one of the student's own texts: the same answer in every process, and after a resume."""
    return share > 0 and random.Random(f"on-policy {seed} {step}").random() < share


def own_texts(model: Any, batch: dict[str, Tensor], tokens: int, n_tokens: int, seed: int) -> dict[str, Tensor]:
    """The batch with all but the beginning of each text as the student goes on with it, each as long as it was.

    So the tokens of a step stay as many, and end-of-text is never drawn: behind it nothing would be worth learning.

    Args:
        model: the student.
        batch: ``input_ids``, ``attention_mask``, ``labels`` [B, T], padded on the right.
        tokens: kept of each text; where the shortest is no longer, all but its last.
        n_tokens: of the tokenizer.
        seed: of the recipe and step; the batch's own tokens go into the seed of its draws, too.
    """
    ids, mask = batch["input_ids"], batch["attention_mask"].bool()
    kept = min(tokens, int(mask.sum(1).min()) - 1)
    written = sample(
        model,
        ids[:, :kept],
        torch.ones_like(ids[:, :kept]),
        length=ids.shape[1],
        n_tokens=n_tokens,
        seed=seed_of(seed, ids.tolist()),
        to_the_end=True,
    )
    ids = torch.where(mask, written, ids)
    return {**batch, "input_ids": ids, "labels": torch.where(batch["labels"] == IGNORED, IGNORED, ids)}
