from __future__ import annotations

import math

import pytest
import torch

from midistill_tasks.distill.callbacks.leakage import Sample


def test_the_figures_agree_with_plain_loops(tiny):
    model = tiny.model(seed=2).train()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    rows = tiny.tokenizer()(tiny.texts(14))["input_ids"]
    members = [(f"m{number}", row) for number, row in enumerate(rows[:7])]
    nonmembers = [(f"n{number}", row) for number, row in enumerate(rows[7:])]
    found = Sample(members, nonmembers).measure(model)
    assert model.training

    model.eval()
    losses: dict[str, list[float]] = {}
    for name, row in members + nonmembers:
        log_p = model(torch.tensor([row])).logits[0].detach().double().log_softmax(-1)
        losses[name] = [-float(log_p[t, row[t + 1]]) for t in range(len(row) - 1)]
    held_out = [loss for name, tokens in losses.items() if name.startswith("n") for loss in tokens]
    assert found["heldout_perplexity"] == pytest.approx(math.exp(sum(held_out) / len(held_out)), rel=1e-4)
    means = {name: sum(tokens) / len(tokens) for name, tokens in losses.items()}
    pairs = [(means[m], means[n]) for m, _ in members for n, _ in nonmembers]
    assert found["loss_auroc"] == pytest.approx(sum(member < other for member, other in pairs) / len(pairs))
