"""Dropout, a regulariser to hold the interventions against.

Source: Srivastava et al., "Dropout" (JMLR 2014).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from midistill_tasks.methods import Intervention, intervention

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel


@intervention("ffn_dropout", "p: after each FFN, in training only; a regulariser to hold the others against")
class FFNDropout(Intervention):
    """What each FFN answers loses a share p of its values, and the others are divided by 1 − p."""

    p: float = Field(gt=0, lt=1)

    def apply(self, model: PreTrainedModel, config: Any) -> None:
        """Beside what dropout the architecture has of its own; in evaluation the model is the stock one."""
        from torch.nn.functional import dropout

        from midistill_tasks.models.surgery import first_projections

        for ffn, _ in first_projections(model, config):
            ffn.register_forward_hook(lambda ffn, inputs, output: dropout(output, self.p, ffn.training))

    def fold(self, model: nn.Module, config: Any, state: dict[str, Tensor]) -> None:
        """The stock model as it stands."""
