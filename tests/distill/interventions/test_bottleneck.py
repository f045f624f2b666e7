"""What a bottleneck replaces in each architecture, and what it computes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from made_students import changes
from torch import nn
from transformers.pytorch_utils import Conv1D

from midistill_tasks.errors import InputError
from midistill_tasks.models.architectures import convert
from midistill_tasks.models.layers import Bottleneck
from midistill_tasks.models.surgery import first_projections

GATED = ("llama", "qwen2", "mistral", "gemma2")


def modules(model: nn.Module, kind: type[nn.Module]) -> list[Any]:
    return [m for m in model.modules() if isinstance(m, kind)]


def test_bottleneck_replaces_the_first_projections_of_every_block(stock: Any, architecture: str) -> None:
    model = stock.model(architecture)
    names = first_projections(model, model.config)[0][1]
    assert names == {"gpt2": ["c_fc"], "gpt_neox": ["dense_h_to_4h"], "opt": ["fc1"]}.get(
        architecture, ["gate_proj", "up_proj"]
    )
    narrow = modules(convert(model, changes(bottleneck=3)), Bottleneck)
    assert len(narrow) == 2 * len(names)
    width = 64 if architecture == "gpt2" else 32
    assert {(b.down.in_features, b.down.out_features, b.up.out_features) for b in narrow} == {(16, 3, width)}
    assert all((b.up.bias is not None) == (architecture not in GATED) for b in narrow)


def test_bottleneck_computes_gelu_between_two_matrices() -> None:
    module = Bottleneck(4, 2, 5, bias=True)
    x = torch.randn(3, 4)
    narrow = x @ module.down.weight.T + module.down.bias
    gelu = narrow * 0.5 * (1 + torch.erf(narrow / 2**0.5))
    torch.testing.assert_close(module(x), gelu @ module.up.weight.T + module.up.bias)


@pytest.mark.parametrize("kind", ["mixtral", "mamba"])
def test_bottleneck_refuses_what_has_no_such_ffn(stock: Any, kind: str) -> None:
    more = {"intermediate_size": 32, "num_key_value_heads": 1} if kind == "mixtral" else {}
    model = stock.model(kind, **more)
    with pytest.raises(InputError, match="remove what changes FFNs"):
        convert(model, changes(bottleneck=3))


def test_conv1d_is_read_the_right_way_round(stock: Any) -> None:
    model = stock.model("gpt2")
    ffn, names = first_projections(model, model.config)[0]
    assert isinstance(getattr(ffn, names[0]), Conv1D)
    bottleneck = modules(convert(model, changes(bottleneck=3)), Bottleneck)[0]
    assert bottleneck.down.weight.shape == (3, 16)
