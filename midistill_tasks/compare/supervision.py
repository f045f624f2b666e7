"""What a teacher's soft targets tell its student of members and of non-members, by the figures of each text.

The paper (arXiv 2505.11837) explains with mixed supervision (the teacher's arg-max is the true token) why students leak
their teacher's vulnerable members. Members that are vulnerable by likelihood have likely tokens by construction, so
each group is also compared with non-members of the same loss under the teacher, and vulnerability is also taken from
`ref`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from midistill_tasks.metrics.estimate import Estimate, ratio
from midistill_tasks.results.run import TextFigures

CALIPER = 0.2
"""Largest distance of a matched pair, in standard deviations of the teacher's loss (Austin 2011)."""


@dataclass(frozen=True)
class TextGroup:
    """Some texts; a row of the table."""

    texts: int
    teacher_loss: float
    teacher_hits: Estimate
    """Share of tokens that are the teacher's arg-max."""
    teacher_p: Estimate
    """At these tokens: the teacher's probability, the student's, and the student's entropy in nats."""
    student_p: Estimate
    student_entropy: Estimate

    @property
    def figures(self) -> dict[str, Estimate]:
        """Those with an error, in the table's order."""
        names = ("teacher_hits", "teacher_p", "student_p", "student_entropy")
        return {name: getattr(self, name) for name in names}


def by_vulnerability(
    texts: Sequence[TextFigures], vulnerable: Mapping[str, set[str]]
) -> dict[str, dict[str, TextGroup]]:
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
        vulnerable_members = [text for text in members if text.id in ids]
        pairs = match(vulnerable_members, nonmembers, CALIPER * float(np.std([text.loss for text in texts])))
        tables[attack] = {
            "vulnerable members": group_of(vulnerable_members),
            "other members": group_of([text for text in members if text.id not in ids]),
            "non-members": group_of(nonmembers),
            "vulnerable, matched": group_of([member for member, _ in pairs]),
            "non-members, matched": group_of([nonmember for _, nonmember in pairs]),
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


def group_of(texts: Sequence[TextFigures]) -> TextGroup:
    """Figures of some texts; NaN where there is nothing to average."""
    return TextGroup(
        texts=len(texts),
        teacher_loss=float(np.mean([text.loss for text in texts])) if texts else math.nan,
        teacher_hits=ratio_over_texts(texts, lambda text: text.hits, lambda text: text.tokens),
        teacher_p=ratio_over_texts(texts, lambda text: text.teacher_p, lambda text: text.hits),
        student_p=ratio_over_texts(texts, lambda text: text.student_p, lambda text: text.hits),
        student_entropy=ratio_over_texts(texts, lambda text: text.student_entropy, lambda text: text.hits),
    )


def ratio_over_texts(
    texts: Sequence[TextFigures],
    above: Callable[[TextFigures], float],
    below: Callable[[TextFigures], float],
) -> Estimate:
    """Σ above / Σ below, with its error over clusters."""
    sums: dict[str, list[float]] = {}
    for text in texts:
        cluster = sums.setdefault(text.cluster, [0.0, 0.0])
        cluster[0] += above(text)
        cluster[1] += below(text)
    return ratio(*np.array(list(sums.values()), dtype=np.float64).reshape(-1, 2).T)


def difference(first: Estimate, second: Estimate) -> Estimate:
    """First − second, with the error of independent groups, which is on the safe side for matched ones."""
    return Estimate(first.value - second.value, math.hypot(first.stderr, second.stderr))


def as_table(tables: Mapping[str, Mapping[str, TextGroup]]) -> str:
    """For people: value ± standard error."""
    lines = []
    for attack, groups in tables.items():
        matched, control = groups["vulnerable, matched"], groups["non-members, matched"]
        header = "".join(f"{name.replace('_', ' '):>22}" for name in matched.figures)
        lines += [f"vulnerable by {attack}", f"{'':<24}{'texts':>6}{'teacher loss':>14}{header}"]
        for name, group in groups.items():
            cells = "".join(f"{_cell(figure):>22}" for figure in group.figures.values())
            lines.append(f"{name:<24}{group.texts:>6}{group.teacher_loss:>14.3f}{cells}")
        gaps = map(difference, matched.figures.values(), control.figures.values())
        loss = matched.teacher_loss - control.teacher_loss
        lines += [f"{'difference, matched':<30}{loss:>14.3f}" + "".join(f"{_cell(gap):>22}" for gap in gaps), ""]
    return "\n".join(lines)


def as_json(tables: Mapping[str, Mapping[str, TextGroup]]) -> dict[str, Any]:
    """The same for programs."""
    return {attack: {name: _stored(group) for name, group in groups.items()} for attack, groups in tables.items()}


def _stored(group: TextGroup) -> dict[str, Any]:
    figures = {name: figure._asdict() for name, figure in group.figures.items()}
    return {"texts": group.texts, "teacher_loss": group.teacher_loss, **figures}


def _cell(figure: Estimate) -> str:
    return f"{figure.value:.3f} ± {figure.stderr:.3f}"
