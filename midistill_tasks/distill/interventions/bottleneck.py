"""A narrow place in each FFN.

Source: Cui, Zhang, Pei, "On Membership Inference Attacks in Knowledge Distillation" (arXiv 2505.11837).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from midistill_tasks.errors import InputError
from midistill_tasks.methods import Foldable, intervention

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

    from midistill_tasks.models import layers


@intervention("bottleneck", "B: each first FFN projection H→I becomes H→B→GELU→I", control="same_params")
class Bottleneck(Foldable):
    """Every first FFN projection H→I becomes H→``width``→GELU→I; without the GELU it folds."""

    width: int = Field(ge=1)

    def apply(self, model: PreTrainedModel, config: Any) -> None:
        """Replaces the projections of every block; they start from random weights."""
        from midistill_tasks.models.layers import Bottleneck
        from midistill_tasks.models.surgery import first_projections, shape

        for ffn, names in first_projections(model, config):
            for name in names:
                projection = getattr(ffn, name)
                bias = projection.bias is not None
                inputs, outputs = shape(projection)
                setattr(ffn, name, Bottleneck(inputs, self.width, outputs, bias, gelu=not self.foldable))

    def fold(self, model: nn.Module, config: Any, state: dict[str, Tensor]) -> None:
        """The one matrix up·down."""
        from transformers.pytorch_utils import Conv1D

        from midistill_tasks.models.layers import Bottleneck
        from midistill_tasks.models.surgery import skeleton

        if not self.foldable:
            raise InputError(
                f"{type(model).__name__}: a bottleneck with its GELU does not fold into a stock architecture; "
                "train a student with 'foldable: true'"
            )
        stock = skeleton(config)
        for name, module in model.named_modules():
            if not isinstance(module, Bottleneck):
                continue
            for key in [key for key in state if key.startswith(f"{name}.")]:
                del state[key]
            weight, bias = _one_matrix(module)
            state[f"{name}.weight"] = weight.t() if isinstance(stock.get_submodule(name), Conv1D) else weight
            if bias is not None:
                state[f"{name}.bias"] = bias


def _one_matrix(module: layers.Bottleneck) -> tuple[Tensor, Tensor | None]:
    down, up = module.down.weight.detach().double(), module.up.weight.detach().double()
    weight = (up @ down).to(module.up.weight.dtype)
    if module.up.bias is None:
        return weight, None
    bias = up @ module.down.bias.detach().double() + module.up.bias.detach().double()
    return weight, bias.to(weight.dtype)
