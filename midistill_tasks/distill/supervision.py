"""Mixed supervision, measured: where the teacher's arg-max is the true token, its soft targets teach the text itself.

`midistill_tasks.compare.supervision` says what follows for members and non-members.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from midistill_tasks.metrics import Scored
from midistill_tasks.models.batching import token_statistics
from midistill_tasks.results.run import TextFigures


def text_figures(teacher: Any, student: Any, items: Sequence[Scored], ids: Sequence[list[int]]) -> list[TextFigures]:
    """Runs both models over the texts; `ids` are their tokens, at least two each."""
    return [
        TextFigures(
            id=item.id,
            cluster=item.cluster,
            label=item.label,
            loss=-float(before.logprob.mean()),
            tokens=len(before.greedy),
            hits=int(before.greedy.sum()),
            teacher_p=float(before.logprob[before.greedy].exp().sum()),
            student_p=float(after.logprob[before.greedy].exp().sum()),
            student_entropy=-float(after.mean[before.greedy].sum()),
        )
        for item, before, after in zip(
            items, token_statistics(teacher, ids), token_statistics(student, ids), strict=True
        )
    ]
