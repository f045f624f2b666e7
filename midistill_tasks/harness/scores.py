"""From the answers of scoring to one score a document."""

from __future__ import annotations

import logging
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from lm_eval.api.instance import Instance

from midistill_tasks.attacks.base import common_part
from midistill_tasks.errors import warn_once
from midistill_tasks.harness.keys import TaskKeys
from midistill_tasks.metrics import Scored
from midistill_tasks.metrics.crossfit import crossfit_scores
from midistill_tasks.views import TokenStats, UnscorableError, Unscored

logger = logging.getLogger(__name__)

T = TypeVar("T")

UNDEFINED = "the score is not defined for it"


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
    found = {group[0].doc["id"]: _found(keys, group) for group in by_doc.values()}
    if keys.attack.fitted:
        found = _fitted({group[0].doc["id"]: group[0].doc for group in by_doc.values()}, found)
    for group in by_doc.values():
        for instance in group:
            instance.resps = [repr(instance.resps[0])]
            instance.filtered_resps["none"] = found[instance.doc["id"]].text.score
    outcome = Outcome(
        {name: one.text for name, one in found.items()},
        dict(Counter(one.why or UNDEFINED for one in found.values() if math.isnan(one.text.score))),
        any(one.silent for one in found.values()),
        sum(one.common_part for one in found.values()),
    )
    if not outcome.silent:
        _say(keys, outcome)
    return outcome


class _Found(NamedTuple):
    """What a document's answers came to: its score, or the features of which it will be made, or why there is none."""

    text: TextScore
    features: Sequence[float] = ()
    why: str = ""
    silent: bool = False
    common_part: bool = False


def _found(keys: TaskKeys, group: Sequence[Instance]) -> _Found:
    answers = {instance.args[1].view.name: instance.resps[0] for instance in group}
    unequal = len({answer.n_chars for answer in answers.values() if isinstance(answer, TokenStats)}) > 1
    if refused := next((answer for answer in answers.values() if isinstance(answer, Unscored)), None):
        return _Found(TextScore(math.nan), (), refused.reason, refused.whole_task, unequal)
    length = TextScore(math.nan, len(common_part(list(answers.values()))[0]), next(iter(answers.values())).truncated)
    try:
        if keys.attack.fitted:
            return _Found(length, keys.attack.features(answers, keys.attack_options), common_part=unequal)
        score = keys.attack.score(answers, keys.attack_options)
        return _Found(length._replace(score=score), common_part=unequal)
    except UnscorableError as error:
        return _Found(TextScore(math.nan), (), str(error), False, unequal)


def _fitted(docs: Mapping[str, Mapping[str, Any]], found: Mapping[str, _Found]) -> dict[str, _Found]:
    """Scores from the features of the documents of all ranks."""
    own = {
        name: (Scored(int(doc["label"]), math.nan, name, str(doc["cluster"])), found[name].features)
        for name, doc in docs.items()
    }
    everything = {name: row for part in gathered(own) for name, row in part.items()}
    width = max((len(features) for _, features in everything.values()), default=0)
    table = [features or [math.nan] * width for _, features in everything.values()]
    scores = crossfit_scores(table, [item for item, _ in everything.values()])
    by_id = dict(zip(everything, scores.tolist(), strict=True))
    few = "too few texts of a class in either half to learn from" if all(map(math.isnan, by_id.values())) else ""
    return {
        name: one._replace(text=one.text._replace(score=by_id[name]), why=one.why or few) for name, one in found.items()
    }


def gathered(value: T) -> list[T]:
    """Every rank's value, by the group of processes that torch has; this one's alone without."""
    from torch import distributed

    if not distributed.is_available() or not distributed.is_initialized() or distributed.get_world_size() == 1:
        return [value]
    values: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values


def _say(keys: TaskKeys, outcome: Outcome) -> None:
    count = len(outcome.scores)
    for reason, texts in outcome.reasons.items():
        logger.warning("[%s] %d of %d texts are not scored: %s", keys.task, texts, count, reason)
    cut = sum(text.truncated for text in outcome.scores.values())
    if cut:
        warn_once(
            f"[{keys.split_name}] {cut} of {count} texts are longer than the model reads at once (max_length) "
            "and are judged by their first tokens"
        )
    if outcome.common_part:
        logger.warning(
            "[%s] %d of %d texts are judged by their beginning, as far as all views of the attack cover them: "
            "models, or what stands in front, leave room for different amounts of a text",
            *(keys.split_name, outcome.common_part, count),
        )
