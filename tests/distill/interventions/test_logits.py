"""What acts behind the head: on the logits that are scored, and not in training."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from made_students import changes

from midistill_tasks.errors import InputError
from midistill_tasks.models.architectures import convert

IDS = torch.arange(20).view(2, 10)


def test_red_list_and_temperature_act_on_the_logits_that_are_scored(stock: Any, architecture: str) -> None:
    model = stock.model(architecture)
    student = convert(model, changes(red_list=(5, 7), temperature=1.5)).eval()
    with torch.no_grad():
        expected = model(IDS).logits / 1.5
        expected[..., [5, 7]] = float("-inf")
        output = student(IDS, labels=torch.full_like(IDS, 9))
        as_tuple = student(IDS, return_dict=False)
    torch.testing.assert_close(output.logits, expected)
    torch.testing.assert_close(as_tuple[0], expected)
    wanted = torch.nn.functional.cross_entropy(expected[:, :-1].flatten(0, 1), torch.full((18,), 9))
    torch.testing.assert_close(output.loss, wanted)


def test_red_list_and_temperature_do_not_act_in_training(stock: Any) -> None:
    model = stock.model("llama")
    student = convert(model, changes(red_list=(5, 7), temperature=1.5)).train()
    torch.testing.assert_close(student(IDS).logits, model(IDS).logits)


def test_a_red_listed_token_is_never_generated(stock: Any) -> None:
    model = stock.model("llama")
    favourite = int(model(IDS[:1]).logits[0, -1].argmax())
    student = convert(model, changes(red_list=(favourite,))).eval()
    assert favourite not in student.generate(IDS[:1], max_new_tokens=8, do_sample=False, pad_token_id=0)[0, 10:]


def test_foreign_token_ids_are_refused(stock: Any) -> None:
    with pytest.raises(InputError, match="from 0 to 63"):
        convert(stock.model("llama"), changes(red_list=(64,)))


def test_a_temperature_of_1_changes_nothing(stock: Any) -> None:
    model = stock.model("llama")
    assert type(convert(model, changes(temperature=1.0))) is type(model)
