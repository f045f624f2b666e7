from __future__ import annotations

import pytest
import torch
from made_students import changes

from midistill_tasks.models.architectures import convert
from midistill_tasks.models.surgery import first_projections

IDS = torch.tensor([[1, 2, 3, 4]])


def test_it_drops_in_training_what_the_ffns_answer_and_nothing_in_evaluation(stock, architecture):
    model = stock.model(architecture)
    stock_logits = model(IDS).logits
    (dropout,) = changes(ffn_dropout=0.5)
    dropout.apply(model, model.config)
    assert torch.equal(model(IDS).logits, stock_logits)
    dropped = []
    ffns = [ffn for ffn, _ in first_projections(model, model.config)]
    for ffn in ffns:
        ffn.train()
        ffn.register_forward_hook(lambda ffn, inputs, output: dropped.append((output == 0).float().mean().item()))
    model(IDS)
    assert len(dropped) == len(ffns) == 2
    assert all(share == pytest.approx(0.5, abs=0.25) for share in dropped)


def test_it_goes_with_a_bottleneck_in_the_same_ffns(stock, architecture):
    student = convert(stock.model(architecture), changes(bottleneck=4, ffn_dropout=0.5)).eval()
    without = convert(stock.model(architecture), changes(bottleneck=4)).eval()
    without.load_state_dict(student.state_dict())
    assert torch.equal(student(IDS).logits, without(IDS).logits)
    for model in (student, without):
        for ffn, _ in first_projections(model, model.config):
            ffn.training = True  # not what is within, such as the model's own dropout
    assert not torch.equal(student(IDS).logits, without(IDS).logits)
