"""The gradient of a text's loss: what was trained on pulls less at the parameters."""

from __future__ import annotations

from typing import Literal

from midistill_tasks.attacks.base import attack
from midistill_tasks.options import option
from midistill_tasks.views import TokenStats, View

GRADIENT = View("gradient", gradient=True)
GROUPS = ("all", "embedding", "head")
NORMS = ("1", "2", "inf")
"""In the order of `TokenStats.gradient`."""


@attack(
    "gradnorm",
    "norm of the gradient of the text's loss, negated",
    source="Wang et al. 2024",
    needs=("gradient",),
    views=(GRADIENT,),
    by_default=False,
)
def gradnorm(
    gradient: TokenStats,
    *,
    norm: Literal["1", "2", "inf"] = option("2", "of the gradient: 1, 2 or inf"),
    group: Literal["all", "embedding", "head"] = option("all", "parameters: all, embedding or head"),
) -> float:
    """−‖∇ mean loss‖ by a group of parameters (Wang et al. 2024, "Pandora's white-box"; MIMIR).

    One backward pass a text, with backend ``hf`` only. Of tied embeddings, embedding and head are one.
    """
    return -float(gradient.gradient[GROUPS.index(group), NORMS.index(norm)])
