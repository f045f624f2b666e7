"""The recipe's section of the loss: a key for each option of each divergence that there is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, create_model, field_validator, model_validator

from midistill_tasks.errors import nearest
from midistill_tasks.methods import DIVERGENCES
from midistill_tasks.options import Strict, options_of
from midistill_tasks.recipes.keys import declared_keys, options_in


class _Section(Strict):
    alpha: float = Field(0.5, ge=0, le=1, description="weight of the divergence")
    temperature: float = Field(2.0, gt=0, description="T of both distributions in D")
    divergence: str = Field("forward_kl", description="D")
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="of the cross-entropy: this share of each label is spread over the vocabulary"
    )
    on_policy: float = Field(
        0.0, ge=0, le=1, description="share of the batches whose texts the student goes on with itself, for D alone"
    )
    on_policy_tokens: int = Field(8, ge=1, description="of each text that it is given there")

    @property
    def options(self) -> dict[str, Any]:
        """Those of the divergence, by name."""
        return options_in(self, self.divergence, options_of(DIVERGENCES[self.divergence]), _OWNERS)

    @field_validator("divergence")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in DIVERGENCES:
            raise ValueError(f"there is no divergence '{name}'{nearest(name, DIVERGENCES)}; {DIVERGENCES.known}")
        return name

    @model_validator(mode="after")
    def _possible(self) -> _Section:
        if getattr(self, "compat", None) and self.divergence != "forward_kl":
            raise ValueError("'compat: paper' is forward KL: remove 'divergence'")
        if getattr(self, "compat", None) and (self.label_smoothing or self.on_policy):
            raise ValueError("'compat: paper' is the published code: remove 'label_smoothing' and 'on_policy'")
        if self.on_policy and self.alpha == 0:
            raise ValueError("'on_policy' is for D, which alpha 0 leaves out: remove one of them")
        return self


_KEYS, _OWNERS = declared_keys(_Section, {name: options_of(function) for name, function in DIVERGENCES.items()})

if TYPE_CHECKING:

    class Loss(_Section):
        """The section, with the options of the divergences."""

        compat: Literal["paper"] | None = None

else:
    Loss = create_model(
        "Loss",
        __base__=_Section,
        __doc__="(1 − alpha)·CE + alpha·T²·D(teacher, student), shifted, masked, mean per token.",
        **_KEYS,
        compat=(
            Literal["paper"] | None,
            Field(None, description="paper: the published code's unshifted CE and KL summed over time, for the record"),
        ),
    )
