"""What an attack is: the views of a text it needs and a pure function of their statistics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from midistill_tasks.views import TokenStats, View

Stats = Mapping[str, TokenStats]


@dataclass(frozen=True)
class Attack:
    """One membership-inference attack.

    Attributes:
        name: its id in task names, ``mia_<name>_<split>``.
        title: one line for people.
        source: author and year of the paper.
        views: the views of a text that `score` needs.
        score: ``(stats by view name, text, **options) -> float``; higher = more likely a member; never called with
            empty statistics, may return NaN where the score is undefined.
        options: names of the `MIAOptions` that `score` takes as keyword arguments.
    """

    name: str
    title: str
    source: str
    views: tuple[View, ...]
    score: Callable[..., float]
    options: tuple[str, ...] = ()
