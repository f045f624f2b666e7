"""From the answers of scoring to one score a document."""

from __future__ import annotations

import logging
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from lm_eval.api.instance import Instance

from midistill_tasks.attacks.base import common_part
from midistill_tasks.errors import warn_once
from midistill_tasks.harness.keys import TaskKeys
from midistill_tasks.views import TokenStats, UnscorableError, Unscored

logger = logging.getLogger(__name__)


class TextScore(NamedTuple):
    """A document's score (NaN = none), from how many tokens of its first view, and whether the model cut the text."""

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
        common_part: how many texts are judged by the beginning that all views of the attack cover.
    """

    scores: Mapping[str, TextScore] = field(default_factory=dict)
    reasons: Mapping[str, int] = field(default_factory=dict)
    silent: bool = False
    common_part: int = 0


def outcome(keys: TaskKeys, instances: Sequence[Instance]) -> Outcome:
    """Scores every document. In each instance only the score stays, which is all that memory and samples keep."""
    by_doc: dict[int, list[Instance]] = defaultdict(list)
    for instance in instances:
        by_doc[instance.doc_id].append(instance)
    scores: dict[str, TextScore] = {}
    reasons: Counter[str] = Counter()
    silent, unequal = False, 0
    for group in by_doc.values():
        answers = {instance.args[1].view.name: instance.resps[0] for instance in group}
        unequal += len({answer.n_chars for answer in answers.values() if isinstance(answer, TokenStats)}) > 1
        refused = next((answer for answer in answers.values() if isinstance(answer, Unscored)), None)
        why = ""
        try:
            found = TextScore(math.nan) if refused else _score(keys, answers)
        except UnscorableError as error:
            found, why = TextScore(math.nan), str(error)
        if refused:
            silent = silent or refused.whole_task
            reasons[refused.reason] += 1
        elif math.isnan(found.score):
            reasons[why or "the score is not defined for it"] += 1
        scores[group[0].doc["id"]] = found
        for instance in group:
            instance.resps = [repr(instance.resps[0])]
            instance.filtered_resps["none"] = found.score
    if not silent:
        for reason, count in reasons.items():
            logger.warning("[%s] %d of %d texts are not scored: %s", keys.task, count, len(by_doc), reason)
    cut = sum(text.truncated for text in scores.values())
    if cut and not silent:
        warn_once(
            f"[{keys.split_name}] {cut} of {len(by_doc)} texts are longer than the model reads at once (max_length) "
            "and are judged by their first tokens"
        )
    if unequal and not silent:
        logger.warning(
            "[%s] %d of %d texts are judged by their beginning, as far as all views of the attack cover them: "
            "models, or what stands in front, leave room for different amounts of a text",
            *(keys.task, unequal, len(by_doc)),
        )
    return Outcome(scores, dict(reasons), silent, unequal)


def _score(keys: TaskKeys, answers: Mapping[str, TokenStats]) -> TextScore:
    first, *_ = common_part(list(answers.values()))
    score = keys.attack.score(answers, keys.attack_options)
    return TextScore(score, len(first), next(iter(answers.values())).truncated)
