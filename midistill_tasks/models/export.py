"""A student as a model of its stock architecture, which needs no code of ours, where its surgery folds into one."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase
from transformers.pytorch_utils import Conv1D

from midistill_tasks.errors import InputError
from midistill_tasks.models.architectures import base_config, surgery_of
from midistill_tasks.models.saving import probe, save
from midistill_tasks.models.surgery import Bottleneck, NoLayerNorm, Surgery

EPS = 2.0**66
"""So large that a norm divides by √eps = 2³³ whatever it is given; a power of two, so that the scaling is exact."""


def export_plain(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: str | os.PathLike[str]) -> None:
    """Writes ``model``, a student with ``foldable`` surgery, as its stock architecture; compared, then saved.

    A bottleneck without GELU becomes the one matrix up·down. γ⊙(x−mean)+β becomes a LayerNorm, and γ⊙x an RMSNorm,
    with eps 2⁶⁶ and weights γ·2³³; that holds for queries' and keys' norms too, since all norms are replaced.

    Raises:
        InputError: the surgery does not fold into the stock architecture, or ``folder`` is not free.
    """
    surgery = surgery_of(model.config)
    _refuse(model, surgery)
    plain = AutoModelForCausalLM.from_config(_stock_config(model, surgery), dtype=model.dtype).to(model.device)
    plain.load_state_dict(_folded(model, plain))
    wanted, got = probe(model).float(), probe(plain).float()
    tolerance = (1e-4 if model.dtype in (torch.float32, torch.float64) else 5e-2) * float(wanted.abs().max())
    if not torch.allclose(got, wanted, rtol=0, atol=tolerance):
        raise InputError(
            f"{type(model).__name__}: folded, its logits differ by up to {float((got - wanted).abs().max()):.2g}: "
            "this architecture cannot be exported; share the student's own folder instead"
        )
    save(plain, tokenizer, folder)


def _refuse(model: PreTrainedModel, surgery: Surgery) -> None:
    name = type(model).__name__
    if not surgery.changes_anything:
        raise InputError(f"{name}: is a stock architecture already; its own folder needs no export")
    if surgery.changes_logits:
        raise InputError(f"{name}: no stock architecture has a red list or a temperature; train a student without")
    if not surgery.foldable:
        raise InputError(
            f"{name}: a bottleneck with its GELU, or γ⊙x+β, does not fold into a stock architecture; "
            "train a student with 'foldable: true'"
        )
    if surgery.nonorm and model.dtype == torch.float16:
        raise InputError(f"{name}: the weights of folded norms exceed float16; load the student in bfloat16 or float32")


def _stock_config(model: PreTrainedModel, surgery: Surgery) -> Any:
    config = base_config(model.config)
    if surgery.nonorm:
        keys = [key for key in config.to_dict() if "norm" in key and "eps" in key]
        if not keys:
            raise InputError(
                f"{config.model_type}: fixes the eps of its norms in its code, so that NoNorm does not fold into it; "
                "share the student's own folder instead"
            )
        for key in keys:
            setattr(config, key, EPS)
    return config


def _folded(model: PreTrainedModel, plain: nn.Module) -> dict[str, Tensor]:
    """The state dict of ``plain`` that computes what ``model`` does."""
    state: dict[str, Tensor] = dict(model.state_dict())
    for name, module in model.named_modules():
        if isinstance(module, Bottleneck):
            for key in [key for key in state if key.startswith(f"{name}.")]:
                del state[key]
            weight, bias = _one_matrix(module)
            state[f"{name}.weight"] = weight.t() if isinstance(plain.get_submodule(name), Conv1D) else weight
            if bias is not None:
                state[f"{name}.bias"] = bias
        elif isinstance(module, NoLayerNorm):
            # Gemma's norms multiply by 1 + weight; beside 2³³ that 1 is below the rounding error.
            state[f"{name}.weight"] = module.weight.detach() * EPS**0.5
    return state


def _one_matrix(module: Bottleneck) -> tuple[Tensor, Tensor | None]:
    down, up = module.down.weight.detach().double(), module.up.weight.detach().double()
    weight = (up @ down).to(module.up.weight.dtype)
    if module.up.bias is None:
        return weight, None
    bias = up @ module.down.bias.detach().double() + module.up.bias.detach().double()
    return weight, bias.to(weight.dtype)
