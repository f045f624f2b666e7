"""What the paper changes inside a model: a bottleneck in each FFN, and norms without normalisation.

Source: Cui, Zhang, Pei, "On Membership Inference Attacks in Knowledge Distillation" (arXiv 2505.11837).
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from transformers import AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from midistill_tasks.errors import InputError

_FFN_WIDTHS = ("intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size")
"""Where the configs of transformers keep the FFN's width I."""


class Surgery(BaseModel):
    """The changes that a student carries in its config, under the key ``midistill``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    nonorm: bool = Field(False, description="each LayerNorm and RMSNorm becomes γ⊙x+β")
    bottleneck: int | None = Field(None, ge=1, description="B: each first FFN projection H→I becomes H→B→GELU→I")
    foldable: bool = Field(
        False,
        description="the variants that `export` can fold into the stock architecture: a bottleneck without its GELU, "
        "γ⊙(x−mean)+β in place of a LayerNorm, γ⊙x in place of an RMSNorm",
    )
    red_list: tuple[int, ...] = Field((), description="ids of tokens that get the logit −inf when the model scores")
    temperature: float = Field(1.0, gt=0, description="divides the logits when the model scores")

    @property
    def changes_logits(self) -> bool:
        """Whether something acts after the head."""
        return bool(self.red_list) or self.temperature != 1.0

    @property
    def changes_anything(self) -> bool:
        """Whether the student differs from the stock architecture at all."""
        return self.nonorm or self.bottleneck is not None or self.changes_logits


class NoLayerNorm(nn.Module):
    """γ⊙x+β in place of a norm (MobileBERT's NoNorm, Sun et al. 2020): [..., D] → [..., D].

    The name holds "LayerNorm" because ``_init_weights`` of the base architecture knows norms by their class name.
    """

    def __init__(self, shape: tuple[int, ...], bias: bool = True, centred: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(shape))
        self.bias = nn.Parameter(torch.zeros(shape)) if bias else None
        self.centred = centred

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] → [..., D], in the dtype of ``x``."""
        if self.centred:
            x = x - x.mean(-1, keepdim=True)
        scaled = x * self.weight
        return (scaled if self.bias is None else scaled + self.bias).to(x.dtype)


class Bottleneck(nn.Module):
    """H→B→GELU→I in place of a projection H→I: [..., H] → [..., I]; without the GELU it folds into one matrix."""

    def __init__(self, inputs: int, width: int, outputs: int, bias: bool, gelu: bool = True) -> None:
        super().__init__()
        self.down = nn.Linear(inputs, width, bias=bias)
        self.activation = nn.GELU() if gelu else nn.Identity()
        self.up = nn.Linear(width, outputs, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """[..., H] → [..., I]."""
        up: Tensor = self.up(self.activation(self.down(x)))
        return up


def operate(model: nn.Module, config: Any, surgery: Surgery) -> None:
    """Replaces modules of ``model`` (a causal LM of ``config``) in place; InputError where a change does not fit."""
    if surgery.nonorm:
        remove_norms(model, surgery.foldable)
    if surgery.bottleneck is not None:
        narrow_ffns(model, config, surgery.bottleneck, surgery.foldable)


def is_norm(module: nn.Module) -> bool:
    """LayerNorm and RMSNorm of any architecture; they share no class, only the name."""
    name = type(module).__name__
    return isinstance(module, nn.LayerNorm) or "LayerNorm" in name or "RMSNorm" in name


def remove_norms(model: nn.Module, foldable: bool) -> None:
    """Every norm becomes ``NoLayerNorm``, also those of queries and keys."""
    norms = [(parent, name, m) for parent in model.modules() for name, m in parent.named_children() if is_norm(m)]
    if not norms:
        raise InputError(f"{type(model).__name__}: nonorm found no LayerNorm and no RMSNorm in it; remove nonorm")
    for parent, name, norm in norms:
        weight = getattr(norm, "weight", None)
        shape = getattr(norm, "normalized_shape", None) if weight is None else tuple(weight.shape)
        if shape is None or "Gated" in type(norm).__name__:
            raise InputError(
                f"{type(model).__name__}: nonorm does not fit the norm {type(norm).__name__}; remove nonorm"
            )
        layer_norm = isinstance(norm, nn.LayerNorm)
        setattr(parent, name, NoLayerNorm(shape, bias=layer_norm or not foldable, centred=layer_norm and foldable))


def first_projections(model: nn.Module, config: Any) -> list[tuple[nn.Module, list[str]]]:
    """Per block the module that holds the FFN and the names of its first projections (one, or gate and up).

    An FFN is known by its shapes: outside attention, a module whose projections go from H to I (or to 2I, gate and up
    in one matrix), but for the last, which goes from I back to H.
    """
    hidden, layers = config.hidden_size, config.num_hidden_layers
    blocks = next((m for m in model.modules() if isinstance(m, nn.ModuleList) and len(m) == layers), nn.ModuleList())
    found = [ffn for block in blocks for ffn in _ffns(block, hidden)]
    mixture = any("Experts" in type(m).__name__ for m in blocks.modules())
    if mixture or len(found) != layers:
        why = "its FFN is a mixture of experts" if mixture else f"{len(found)} in {layers} blocks"
        raise InputError(
            f"{type(model).__name__}: bottleneck found no FFN of the shape H→I, I→H in every block ({why}); "
            "remove bottleneck or use another architecture"
        )
    return found


def _ffns(block: nn.Module, hidden: int) -> list[tuple[nn.Module, list[str]]]:
    found = []
    for module in block.modules():
        if "attention" in type(module).__name__.lower():
            continue
        linear = [(n, *shape(m)) for n, m in module.named_children() if isinstance(m, nn.Linear | Conv1D)]
        if len(linear) < 2:
            continue
        *firsts, (_, width, back) = linear
        if back == hidden and all(inputs == hidden and outputs in (width, 2 * width) for _, inputs, outputs in firsts):
            found.append((module, [name for name, _, _ in firsts]))
    return found


def shape(projection: nn.Linear | Conv1D) -> tuple[int, int]:
    """(inputs, outputs); GPT-2's Conv1D keeps its weight transposed."""
    rows, columns = projection.weight.shape
    return (rows, columns) if isinstance(projection, Conv1D) else (columns, rows)


def narrow_ffns(model: nn.Module, config: Any, width: int, foldable: bool) -> None:
    """Every first FFN projection H→I becomes H→``width``→GELU→I."""
    for ffn, names in first_projections(model, config):
        for name in names:
            projection = getattr(ffn, name)
            bias = projection.bias is not None
            inputs, outputs = shape(projection)
            setattr(ffn, name, Bottleneck(inputs, width, outputs, bias, gelu=not foldable))


def n_parameters(config: Any) -> int:
    """Parameters of a causal LM of this config, tied ones once; no memory is taken."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    return sum(p.numel() for p in model.parameters())


def same_params(config: Any, target_params: int) -> Any:
    """The control of ``bottleneck``: ``config`` with the FFN width that brings it nearest to ``target_params``.

    Raises:
        InputError: the architecture has no FFN width of its own, or even width 1 is too large.
    """
    key = next((name for name in _FFN_WIDTHS if hasattr(config, name)), None)
    if key is None:
        raise InputError(f"{config.model_type}: same_params knows no FFN width in this config; remove same_params")

    def of_width(width: int) -> Any:
        resized = copy.deepcopy(config)
        setattr(resized, key, width)
        return resized

    one, two = n_parameters(of_width(1)), n_parameters(of_width(2))
    width = 1 + round((target_params - one) / (two - one))
    if width < 1:
        raise InputError(
            f"{config.model_type}: same_params cannot shrink the FFN to {target_params} parameters in all "
            f"(an FFN of width 1 leaves {one}); give a larger number"
        )
    return of_width(width)
