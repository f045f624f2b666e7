"""A scored text, and the forms in which the harness hands it to an aggregation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from midistill_tasks.errors import InputError

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]


class Scored(NamedTuple):
    """One text under one attack.

    Attributes:
        label: 1 member, 0 non-member.
        score: higher = more likely a member; NaN = not scored, and every metric drops it.
        id: hash of the text.
        cluster: the document the text came from; the id where texts are independent.
    """

    label: int
    score: float
    id: str
    cluster: str


def as_scored(items: Iterable[Sequence[Any]]) -> list[Scored]:
    """Reads ``(label, score[, id[, cluster]])`` rows: Scored tuples, their JSON lists, or pairs of a user's own task.

    The id falls back to the position, the cluster to the id, a missing score (None) to NaN.

    Raises:
        InputError: for a row that is no such tuple, or a label other than 0 and 1.
    """
    scored = []
    for position, item in enumerate(items):
        try:
            label, score, *rest = item
            row = Scored(int(label), float("nan") if score is None else float(score), *_names(rest, position))
        except (OverflowError, TypeError, ValueError):  # int() of an infinite label
            raise InputError(
                f"MIA metrics, item {position}: {item!r} is no (label, score) or (label, score, id, cluster)"
            ) from None
        if row.label not in (0, 1) or row.label != float(label):
            raise InputError(f"MIA metrics, item {position}: label {label!r} must be 1 (member) or 0 (non-member)")
        scored.append(row)
    return scored


def _names(rest: Sequence[Any], position: int) -> tuple[str, str]:
    if len(rest) > 2:
        raise ValueError
    name = str(rest[0]) if rest else str(position)
    return name, str(rest[1]) if len(rest) == 2 else name


def columns(items: Sequence[Scored]) -> tuple[BoolArray, FloatArray, list[str]]:
    """Labels (True = member), scores and clusters of the items, in their order, NaN scores included."""
    labels = np.array([item.label == 1 for item in items], dtype=np.bool_)
    scores = np.array([item.score for item in items], dtype=np.float64)
    return labels, scores, [item.cluster for item in items]
