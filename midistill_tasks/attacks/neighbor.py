"""Neighbour comparison: the text against variants with one word replaced by a masked language model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from midistill_tasks.attacks.base import Views, attack
from midistill_tasks.attacks.likelihood import mean_logprob
from midistill_tasks.options import option
from midistill_tasks.registry import Registry
from midistill_tasks.views import TEXT, TokenStats, View, bound

Rewriter = Callable[[str, str, int], tuple[str, ...]]
"""Name of a model, text, n → n variants of the text."""
REWRITERS: Registry[Rewriter] = Registry(
    "rewriter", "midistill.rewriters", {"masked": "midistill_tasks.scoring.backends.masked"}
)


def _neighbor(model: str, count: int, number: int, text: str) -> str:
    return REWRITERS["masked"](model, text, count)[number]


def _views(options: Mapping[str, Any]) -> Views:
    model, count = str(options["neighbor_model"]), options["neighbors"]
    views = (View(f"neighbor_{n + 1}_of_{count}_{model}", bound(_neighbor, model, count, n)) for n in range(count))
    return (TEXT, *views)


@attack(
    "neighbor",
    "log-probability against that of neighbours made by a masked language model",
    source="Mattern et al. 2023",
    views=_views,
    by_default=False,
    requires=("neighbor_model",),
)
def neighbor(
    text: TokenStats,
    *neighbours: TokenStats,
    neighbor_model: str | None = option(None, "a masked language model that replaces words, such as roberta-base"),
    neighbors: int = option(25, "neighbours of a text, one word replaced in each", ge=1, le=100),
) -> float:
    """Mean ℓ minus the mean over neighbours of their mean ℓ (Mattern et al. 2023, "Membership inference attacks against
    language models via neighbourhood comparison").

    What was learnt is likelier than texts beside it.
    """
    return mean_logprob(text) - sum(map(mean_logprob, neighbours)) / len(neighbours)
