"""Mixed supervision: where the teacher's arg-max is the true token, its soft targets teach the text itself.

The paper (arXiv 2505.11837) explains with it why students leak their teacher's vulnerable members. Members that are
vulnerable by likelihood have likely tokens by construction, so each group is also compared with non-members of the same
loss under the teacher, and vulnerability is also taken from `ref`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from midistill_tasks.distill.samples import Row
from midistill_tasks.models.batching import token_statistics

CALIPER = 0.2
"""Largest distance of a matched pair, in standard deviations of the teacher's loss (Austin 2011)."""


@dataclass(frozen=True)
class TextFigures:
    """Sums over one text's tokens; a hit is a token that is the teacher's arg-max."""

    id: str
    cluster: str
    label: int
    loss: float
    """Mean −log p of the teacher, in nats."""
    tokens: int
    hits: int
    teacher_p: float
    """Sum over the hits of the teacher's probability of the token."""
    student_p: float
    student_entropy: float
    """Sum over the hits of the entropy of the student's distribution, in nats."""


@dataclass(frozen=True)
class Figure:
    """A mean over tokens with its standard error over texts (documents, where texts share one)."""

    value: float
    stderr: float


@dataclass(frozen=True)
class Group:
    """One line of the table."""

    texts: int
    teacher_loss: float
    teacher_hits: Figure
    """Share of tokens that are the teacher's arg-max."""
    teacher_p: Figure
    """At these tokens: the teacher's probability, the student's, and the student's entropy in nats."""
    student_p: Figure
    student_entropy: Figure


FIGURES = ("teacher_hits", "teacher_p", "student_p", "student_entropy")


def text_figures(teacher: Any, student: Any, rows: Sequence[Row], ids: Sequence[list[int]]) -> list[TextFigures]:
    """Runs both models over the texts; `ids` are their tokens, at least two each."""
    figures = []
    for row, ours, theirs in zip(rows, token_statistics(teacher, ids), token_statistics(student, ids), strict=True):
        hit = ours.greedy
        figures.append(
            TextFigures(
                id=row.id,
                cluster=row.cluster,
                label=row.label,
                loss=-float(ours.logprob.mean()),
                tokens=len(hit),
                hits=int(hit.sum()),
                teacher_p=float(ours.logprob[hit].exp().sum()),
                student_p=float(theirs.logprob[hit].exp().sum()),
                student_entropy=-float(theirs.mean[hit].sum()),
            )
        )
    return figures


def compare(texts: Sequence[TextFigures], vulnerable: Mapping[str, set[str]]) -> dict[str, dict[str, Group]]:
    """The groups by each way of being vulnerable.

    Args:
        texts: of all members and non-members.
        vulnerable: attack → ids of the members that it finds in the teacher.

    Returns:
        attack → group → figures. The last two groups are pairs of one vulnerable member and one non-member whose losses
        under the teacher lie within `CALIPER`; vulnerable members without such a partner are not in them.
    """
    members = [text for text in texts if text.label == 1]
    nonmembers = [text for text in texts if text.label == 0]
    tables = {}
    for attack, ids in vulnerable.items():
        found = [text for text in members if text.id in ids]
        pairs = match(found, nonmembers, CALIPER * float(np.std([text.loss for text in texts])))
        tables[attack] = {
            "vulnerable members": group(found),
            "other members": group([text for text in members if text.id not in ids]),
            "non-members": group(nonmembers),
            "vulnerable, matched": group([member for member, _ in pairs]),
            "non-members, matched": group([other for _, other in pairs]),
        }
    return tables


def match(
    members: Sequence[TextFigures], nonmembers: Sequence[TextFigures], caliper: float
) -> list[tuple[TextFigures, TextFigures]]:
    """Pairs without repetition whose distances in loss have the smallest sum; pairs further apart than `caliper` go."""
    if not members or not nonmembers:
        return []
    distance = np.abs(np.subtract.outer([text.loss for text in members], [text.loss for text in nonmembers]))
    # A far pair costs a fixed amount, so that it never pushes near ones apart.
    rows, columns = linear_sum_assignment(np.where(distance <= caliper, distance, 1e6))
    return [
        (members[row], nonmembers[column])
        for row, column in zip(rows, columns, strict=True)
        if distance[row, column] <= caliper
    ]


def group(texts: Sequence[TextFigures]) -> Group:
    """Figures of some texts; NaN where there is nothing to average."""
    return Group(
        texts=len(texts),
        teacher_loss=float(np.mean([text.loss for text in texts])) if texts else math.nan,
        teacher_hits=ratio(texts, lambda text: text.hits, lambda text: text.tokens),
        teacher_p=ratio(texts, lambda text: text.teacher_p, lambda text: text.hits),
        student_p=ratio(texts, lambda text: text.student_p, lambda text: text.hits),
        student_entropy=ratio(texts, lambda text: text.student_entropy, lambda text: text.hits),
    )


def ratio(
    texts: Sequence[TextFigures],
    above: Callable[[TextFigures], float],
    below: Callable[[TextFigures], float],
) -> Figure:
    """Σ above / Σ below, with the linearised error over clusters (Cochran 1977, section 6.4)."""
    sums: dict[str, list[float]] = {}
    for text in texts:
        one = sums.setdefault(text.cluster, [0.0, 0.0])
        one[0] += above(text)
        one[1] += below(text)
    x, m = np.array(list(sums.values()), dtype=float).reshape(-1, 2).T
    if m.sum() == 0:
        return Figure(math.nan, math.nan)
    value = float(x.sum() / m.sum())
    if len(x) < 2:
        return Figure(value, math.nan)
    residuals = x - value * m
    return Figure(value, float(math.sqrt(len(x) / (len(x) - 1) * (residuals**2).sum()) / m.sum()))


def difference(one: Figure, other: Figure) -> Figure:
    """With the error of independent groups, which is on the safe side for matched ones."""
    return Figure(one.value - other.value, math.hypot(one.stderr, other.stderr))


def as_table(tables: Mapping[str, Mapping[str, Group]]) -> str:
    """For people: value ± standard error."""
    lines = []
    for attack, groups in tables.items():
        header = "".join(f"{name.replace('_', ' '):>22}" for name in FIGURES)
        lines += [f"vulnerable by {attack}", f"{'':<24}{'texts':>6}{'teacher loss':>14}{header}"]
        for name, one in groups.items():
            cells = "".join(f"{_cell(getattr(one, figure)):>22}" for figure in FIGURES)
            lines.append(f"{name:<24}{one.texts:>6}{one.teacher_loss:>14.3f}{cells}")
        pair = groups["vulnerable, matched"], groups["non-members, matched"]
        gaps = (difference(getattr(pair[0], figure), getattr(pair[1], figure)) for figure in FIGURES)
        loss = pair[0].teacher_loss - pair[1].teacher_loss
        lines += [f"{'difference, matched':<30}{loss:>14.3f}" + "".join(f"{_cell(gap):>22}" for gap in gaps), ""]
    return "\n".join(lines)


def as_json(tables: Mapping[str, Mapping[str, Group]]) -> dict[str, Any]:
    """The same for programs."""
    return {attack: {name: asdict(one) for name, one in groups.items()} for attack, groups in tables.items()}


def _cell(figure: Figure) -> str:
    return f"{figure.value:.3f} ± {figure.stderr:.3f}"
