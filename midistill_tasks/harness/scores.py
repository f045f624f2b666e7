"""From the answers of scoring to one score a document."""

from __future__ import annotations

import logging
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from lm_eval.api.instance import Instance

from midistill_tasks.harness.keys import TaskKeys
from midistill_tasks.views import TokenStats, Unscored

logger = logging.getLogger(__name__)


class TextScore(NamedTuple):
    """A document's score (NaN = none), how many tokens of its first view were scored, and whether it was cut."""

    score: float
    n_tokens: int = 0
    truncated: bool = False


@dataclass(frozen=True)
class Outcome:
    """What a task's requests came to, on this rank.

    Attributes:
        scores: by the document's id.
        reasons: why texts have no score → how many.
        silent: whether that holds for the whole task, so that it reports nothing.
    """

    scores: Mapping[str, TextScore] = field(default_factory=dict)
    reasons: Mapping[str, int] = field(default_factory=dict)
    silent: bool = False


def outcome(keys: TaskKeys, instances: Sequence[Instance]) -> Outcome:
    """Scores every document. In each instance only the score stays, which is all that memory and samples keep."""
    by_doc: dict[int, list[Instance]] = defaultdict(list)
    for instance in instances:
        by_doc[instance.doc_id].append(instance)
    scores: dict[str, TextScore] = {}
    reasons: Counter[str] = Counter()
    silent = False
    for group in by_doc.values():
        answers = {instance.args[1].view.name: instance.resps[0] for instance in group}
        refused = next((answer for answer in answers.values() if isinstance(answer, Unscored)), None)
        found = TextScore(math.nan) if refused else _score(keys, answers)
        if refused:
            silent = silent or refused.whole_task
            reasons[refused.reason] += 1
        elif math.isnan(found.score):
            reasons["the score is not defined for it"] += 1
        scores[group[0].doc["id"]] = found
        for instance in group:
            instance.resps = [repr(instance.resps[0])]
            instance.filtered_resps["none"] = found.score
    if not silent:
        for reason, count in reasons.items():
            logger.warning("[%s] %d of %d texts are not scored: %s", keys.task, count, len(by_doc), reason)
    return Outcome(scores, dict(reasons), silent)


def _score(keys: TaskKeys, answers: Mapping[str, TokenStats]) -> TextScore:
    first = next(iter(answers.values()))
    score = keys.attack.score(answers, keys.attack_options)
    return TextScore(score, len(first), first.truncated)
