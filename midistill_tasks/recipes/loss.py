"""The recipe's section of the loss: a key for each option of each divergence that there is."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, create_model, field_validator, model_validator
from pydantic.fields import FieldInfo

from midistill_tasks.errors import nearest
from midistill_tasks.methods import DIVERGENCES
from midistill_tasks.options import Strict, annotated, defaults, options_of

logger = logging.getLogger(__name__)


class _Section(Strict):
    alpha: float = Field(0.5, ge=0, le=1, description="weight of the divergence")
    temperature: float = Field(2.0, gt=0, description="T of both distributions in D")
    divergence: str = Field("forward_kl", description="D")

    @property
    def options(self) -> dict[str, Any]:
        """Those of the divergence, by name."""
        options = defaults(options_of(DIVERGENCES[self.divergence]))
        return {key: getattr(self, key) if self.divergence in _SHARED.get(key, ()) else options[key] for key in options}

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
        return self


_SHARED: dict[str, list[str]] = {}
"""Key → the divergences whose option it is; those that declare it alike share it."""


def _keys() -> dict[str, tuple[Any, Any]]:
    declared: dict[str, tuple[Any, FieldInfo]] = {}
    for name, function in DIVERGENCES.items():
        for key, (kind, info) in options_of(function).items():
            same = declared.setdefault(key, (kind, info))
            if key in _RESERVED or (kind, info.default, info.metadata) != (same[0], same[1].default, same[1].metadata):
                logger.warning("loss.%s is not that of the divergence '%s', which keeps its default", key, name)
            else:
                _SHARED.setdefault(key, []).append(name)
    return {key: _key(*declared[key], names) for key, names in _SHARED.items()}


def _key(kind: Any, info: FieldInfo, names: list[str]) -> tuple[Any, Any]:
    text = f"{', '.join(names)}: {info.description}"
    return annotated(kind, info), Field(info.get_default(call_default_factory=True), description=text)


_RESERVED = ("alpha", "temperature", "divergence", "compat")
_DOC = "(1 − alpha)·CE + alpha·T²·D(teacher, student), shifted, masked, mean per token."

if TYPE_CHECKING:

    class Loss(_Section):
        """The section, with the options of the divergences."""

        compat: Literal["paper"] | None = None

else:
    Loss = create_model(
        "Loss",
        __base__=_Section,
        __doc__=_DOC,
        **_keys(),
        compat=(
            Literal["paper"] | None,
            Field(None, description="paper: the published code's unshifted CE and KL summed over time, for the record"),
        ),
    )
