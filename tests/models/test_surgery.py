"""What is replaced in each architecture, that it computes what it says, and the size of the control."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from midistill_tasks.errors import InputError
from midistill_tasks.models.architectures import convert, student_config
from midistill_tasks.models.surgery import (
    Bottleneck,
    NoLayerNorm,
    Surgery,
    first_projections,
    is_norm,
    n_parameters,
    same_params,
)

GATED = ("llama", "qwen2", "mistral", "gemma2")


def modules(model: nn.Module, kind: type[nn.Module]) -> list[Any]:
    return [m for m in model.modules() if isinstance(m, kind)]


def test_bottleneck_replaces_the_first_projections_of_every_block(stock: Any, architecture: str) -> None:
    model = stock.model(architecture)
    names = first_projections(model, model.config)[0][1]
    assert names == {"gpt2": ["c_fc"], "gpt_neox": ["dense_h_to_4h"], "opt": ["fc1"]}.get(
        architecture, ["gate_proj", "up_proj"]
    )
    narrow = modules(convert(model, Surgery(bottleneck=3)), Bottleneck)
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


def test_a_fused_gate_and_up_projection_is_found(stock: Any) -> None:
    model = stock.model("phi3", intermediate_size=32, pad_token_id=0)
    assert first_projections(model, model.config)[0][1] == ["gate_up_proj"]


def test_projections_outside_the_ffn_are_left_alone(stock: Any) -> None:
    # OPT-350m projects its embeddings with a pair of such shapes.
    model = stock.model("opt", word_embed_proj_dim=8, ffn_dim=16)
    assert [names for _, names in first_projections(model, model.config)] == [["fc1"], ["fc1"]]


@pytest.mark.parametrize("kind", ["mixtral", "mamba"])
def test_bottleneck_refuses_what_has_no_such_ffn(stock: Any, kind: str) -> None:
    more = {"intermediate_size": 32, "num_key_value_heads": 1} if kind == "mixtral" else {}
    model = stock.model(kind, **more)
    with pytest.raises(InputError, match="remove bottleneck"):
        convert(model, Surgery(bottleneck=3))


def test_nonorm_leaves_no_norm_and_keeps_gain_and_shift(stock: Any, architecture: str) -> None:
    model = stock.model(architecture)
    student = convert(model, Surgery(nonorm=True))
    norms = {name: m for name, m in model.named_modules() if is_norm(m)}
    replaced = dict(student.named_modules())
    assert len(norms) >= 5
    for name, norm in norms.items():
        mine = replaced[name]
        assert isinstance(mine, NoLayerNorm)
        gain = 1 + norm.weight if architecture == "gemma2" else norm.weight  # Gemma's norms multiply by 1 + weight
        torch.testing.assert_close(mine.weight, gain)
        torch.testing.assert_close(mine.bias, getattr(norm, "bias", None) if hasattr(norm, "bias") else 0 * gain)
        x = torch.randn(3, 16)
        torch.testing.assert_close(mine(x), x * mine.weight + mine.bias)


def test_foldable_nonorm_is_centred_for_layer_norm_and_without_shift_for_rms_norm(stock: Any) -> None:
    x = torch.randn(3, 16)
    layer = modules(convert(stock.model("gpt2"), Surgery(nonorm=True, foldable=True)), NoLayerNorm)[0]
    torch.testing.assert_close(layer(x), (x - x.mean(-1, keepdim=True)) * layer.weight + layer.bias)
    rms = modules(convert(stock.model("llama"), Surgery(nonorm=True, foldable=True)), NoLayerNorm)[0]
    assert rms.bias is None
    torch.testing.assert_close(rms(x), x * rms.weight)


def test_nonorm_refuses_a_norm_with_a_gate(stock: Any) -> None:
    model = stock.model("mamba2", num_heads=4, head_dim=8, n_groups=1, state_size=8)
    with pytest.raises(InputError, match="Gated"):
        convert(model, Surgery(nonorm=True))


def test_same_params_is_as_near_as_an_ffn_width_allows(stock: Any, architecture: str) -> None:
    config = stock.model(architecture).config
    target = n_parameters(student_config(config, Surgery(bottleneck=3)))
    control = same_params(config, target)
    assert type(control) is type(config)
    per_width = (n_parameters(same_params(config, 10**6)) - n_parameters(control)) / (
        width(same_params(config, 10**6)) - width(control)
    )
    assert abs(n_parameters(control) - target) <= per_width / 2


def width(config: Any) -> int:
    return int(
        next(getattr(config, key) for key in ("intermediate_size", "ffn_dim", "n_inner") if hasattr(config, key))
    )


def test_same_params_refuses_what_no_width_reaches(stock: Any) -> None:
    with pytest.raises(InputError, match="larger number"):
        same_params(stock.model("llama").config, 10)


def test_n_parameters_counts_tied_weights_once(stock: Any) -> None:
    model = stock.model("gpt2")
    assert model.config.tie_word_embeddings
    assert n_parameters(model.config) == sum(p.numel() for p in {id(p): p for p in model.parameters()}.values())


def test_conv1d_is_read_the_right_way_round(stock: Any) -> None:
    model = stock.model("gpt2")
    ffn, names = first_projections(model, model.config)[0]
    assert isinstance(getattr(ffn, names[0]), Conv1D)
    bottleneck = modules(convert(model, Surgery(bottleneck=3)), Bottleneck)[0]
    assert bottleneck.down.weight.shape == (3, 16)
