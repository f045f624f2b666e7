"""Norms without normalisation.

Source: Cui, Zhang, Pei, "On Membership Inference Attacks in Knowledge Distillation" (arXiv 2505.11837).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from midistill_tasks.errors import InputError
from midistill_tasks.methods import Foldable, intervention

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

EPS = 2.0**66
"""So large that a norm divides by √eps = 2³³ whatever it is given; a power of two, so that the scaling is exact."""


@intervention("nonorm", "each LayerNorm and RMSNorm becomes γ⊙x+β")
class NoNorm(Foldable):
    """Every norm, also those of queries and keys; foldable: γ⊙(x−mean)+β for a LayerNorm, γ⊙x for an RMSNorm."""

    advice = "NoNorm has no scale control"
    advice_at_start = "NoNorm on copied weights lets them grow from layer to layer: set student.reinitialise: true"

    def apply(self, model: PreTrainedModel, config: Any) -> None:
        """Every norm becomes a `NoLayerNorm`."""
        from torch import nn

        from midistill_tasks.models.layers import NoLayerNorm
        from midistill_tasks.models.surgery import is_norm

        name = type(model).__name__
        norms = [(parent, at, m) for parent in model.modules() for at, m in parent.named_children() if is_norm(m)]
        if not norms:
            raise InputError(f"{name}: nonorm found no LayerNorm and no RMSNorm in it; remove nonorm")
        for parent, at, norm in norms:
            weight = getattr(norm, "weight", None)
            shape = getattr(norm, "normalized_shape", None) if weight is None else tuple(weight.shape)
            if shape is None or "Gated" in type(norm).__name__:
                raise InputError(f"{name}: nonorm does not fit the norm {type(norm).__name__}; remove nonorm")
            layer_norm = isinstance(norm, nn.LayerNorm)
            bias, centred = layer_norm or not self.foldable, layer_norm and self.foldable
            setattr(parent, at, NoLayerNorm(shape, bias=bias, centred=centred))

    def fold(self, model: nn.Module, config: Any, state: dict[str, Tensor]) -> None:
        """A LayerNorm or RMSNorm with eps 2⁶⁶ and weights γ·2³³."""
        import torch

        from midistill_tasks.models.layers import NoLayerNorm

        name = type(model).__name__
        if not self.foldable:
            raise InputError(
                f"{name}: γ⊙x+β does not fold into a stock architecture; train a student with 'foldable: true'"
            )
        if next(model.parameters()).dtype == torch.float16:
            raise InputError(
                f"{name}: the weights of folded norms exceed float16; load the student in bfloat16 or float32"
            )
        keys = [key for key in config.to_dict() if "norm" in key and "eps" in key]
        if not keys:
            raise InputError(
                f"{config.model_type}: fixes the eps of its norms in its code, so that NoNorm does not fold into it; "
                "share the student's own folder instead"
            )
        for key in keys:
            setattr(config, key, EPS)
        for at, module in model.named_modules():
            if isinstance(module, NoLayerNorm):
                # Gemma's norms multiply by 1 + weight; beside 2³³ that 1 is below the rounding error.
                state[f"{at}.weight"] = module.weight.detach() * EPS**0.5
