"""The control of a bottleneck: a student of the stock architecture with as many parameters."""

from __future__ import annotations

import copy
from typing import Any

from pydantic import Field

from midistill_tasks.errors import InputError
from midistill_tasks.methods import Intervention, intervention

_FFN_WIDTHS = ("intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size")
"""Where the configs of transformers keep the FFN's width I."""


@intervention("same_params", "control: a plain student with as many parameters as one with this bottleneck")
class SameParams(Intervention):
    """An FFN so narrow that the student is as large as one whose bottleneck has this `width`."""

    width: int = Field(ge=1)

    def resize(self, config: Any) -> Any:
        """The config of that FFN."""
        from midistill_tasks.distill.interventions.bottleneck import Bottleneck
        from midistill_tasks.models.architectures import student_config
        from midistill_tasks.models.surgery import n_parameters

        return same_params(config, n_parameters(student_config(config, [Bottleneck(width=self.width)])))


def same_params(config: Any, target_params: int) -> Any:
    """`config` with the FFN width that brings it nearest to `target_params`.

    Raises:
        InputError: the architecture has no FFN width of its own, or even width 1 is too large.
    """
    from midistill_tasks.models.surgery import n_parameters

    key = next((name for name in _FFN_WIDTHS if hasattr(config, name)), None)
    if key is None:
        raise InputError(f"{config.model_type}: same_params knows no FFN width in this config; remove same_params")

    def of_width(width: int) -> Any:
        resized = copy.deepcopy(config)
        setattr(resized, key, width)
        return resized

    at_one, at_two = n_parameters(of_width(1)), n_parameters(of_width(2))
    width = 1 + round((target_params - at_one) / (at_two - at_one))
    if width < 1:
        raise InputError(
            f"{config.model_type}: same_params cannot shrink the FFN to {target_params} parameters in all "
            f"(an FFN of width 1 leaves {at_one}); give a larger number"
        )
    return of_width(width)
