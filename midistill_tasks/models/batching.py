"""Batches of token ids, and what a model in memory makes of them, without the harness around it."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from midistill_tasks.scoring.backends.hf.head import Statistics, from_logits


def pad(rows: Sequence[Sequence[int]], pad_id: int) -> dict[str, torch.Tensor]:
    """``input_ids`` and ``attention_mask``, [B, L], padded on the right."""
    length = max(map(len, rows))
    return {
        "input_ids": torch.tensor([[*row, *[pad_id] * (length - len(row))] for row in rows]),
        "attention_mask": torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in rows]),
    }


def token_statistics(model: torch.nn.Module, rows: Sequence[Sequence[int]], batch_size: int = 8) -> list[Statistics]:
    """Statistics of tokens 1 … n−1 of each text, in the texts' order; the model is left in the mode it was in.

    Args:
        model: a causal LM.
        rows: token ids of each text, at least two each.
        batch_size: texts a forward; they are taken by length.
    """
    statistics: dict[int, Statistics] = {}
    order = sorted(range(len(rows)), key=lambda position: -len(rows[position]))
    device = next(model.parameters()).device
    training = model.training
    model.eval()
    with torch.no_grad():  # in inference mode FSDP2 would gather weights of which no gradient could be taken afterwards
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            inputs = {name: tensor.to(device) for name, tensor in pad([rows[p] for p in batch], 0).items()}
            logits = model(**inputs, use_cache=False).logits
            for position, ids, whole in zip(batch, inputs["input_ids"], logits, strict=True):
                last = len(rows[position]) - 1
                figures = from_logits(whole[:last].float(), ids[1 : last + 1])
                statistics[position] = Statistics(*(values.cpu() for values in figures))
    model.train(training)
    return [statistics[position] for position in range(len(rows))]
