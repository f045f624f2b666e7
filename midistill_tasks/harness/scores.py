"""From the answers of scoring to one score a document."""

from __future__ import annotations

import logging
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import numpy as np
from lm_eval.api.instance import Instance

from midistill_tasks.attacks.base import common_part
from midistill_tasks.errors import warn_once
from midistill_tasks.harness.keys import TaskKeys
from midistill_tasks.metrics import Scored
from midistill_tasks.metrics.crossfit import Learnt, crossfit_choice, crossfit_scores
from midistill_tasks.views import TokenStats, UnscorableError, Unscored

logger = logging.getLogger(__name__)

T = TypeVar("T")

UNDEFINED = "the score is not defined for it"


class TextScore(NamedTuple):
    """A document's score (NaN = none), from how many tokens of its first view, and whether the model cut the text."""

    score: float
    n_tokens: int = 0
    truncated: bool = False


CHOSEN = "crossfit"
"""The filter of the score by the variant that was chosen on the other half of the texts."""


@dataclass(frozen=True)
class Outcome:
    """What a task's requests came to, on this rank.

    Attributes:
        scores: by the document's id, of the first filter.
        reasons: why texts have no score → how many.
        silent: whether that holds for the whole task, so that it reports nothing.
        common_part: how many texts are judged by the beginning that all views of the attack cover.
    """

    scores: Mapping[str, TextScore] = field(default_factory=dict)
    reasons: Mapping[str, int] = field(default_factory=dict)
    silent: bool = False
    common_part: int = 0


class _Found(NamedTuple):
    """What a document's answers came to: a score by filter, or the features of which it will be made, or why not."""

    length: TextScore
    scores: Mapping[str, float] = {}
    features: Sequence[float] = ()
    why: str = ""
    silent: bool = False
    common_part: bool = False


def outcome(keys: TaskKeys, instances: Sequence[Instance]) -> Outcome:
    """Scores every document. In each instance only the scores stay, which is all that memory and samples keep."""
    by_doc: dict[int, list[Instance]] = defaultdict(list)
    for instance in instances:
        by_doc[instance.doc_id].append(instance)
    found = {group[0].doc["id"]: _found(keys, group) for group in by_doc.values()}
    if keys.learnt:
        found = _learnt(keys, {group[0].doc["id"]: group[0].doc for group in by_doc.values()}, found)
    filters = [*([CHOSEN] if len(keys.variants) > 1 else []), *keys.variants]
    for group in by_doc.values():
        scores = found[group[0].doc["id"]].scores
        for instance in group:
            instance.resps = [repr(instance.resps[0])]
            instance.filtered_resps |= {name: scores.get(name, math.nan) for name in filters}
    outcome = Outcome(
        {name: one.length._replace(score=one.scores.get(filters[0], math.nan)) for name, one in found.items()},
        dict(
            Counter(one.why or UNDEFINED for one in found.values() if math.isnan(one.scores.get(filters[0], math.nan)))
        ),
        any(one.silent for one in found.values()),
        sum(one.common_part for one in found.values()),
    )
    if not outcome.silent:
        _say(keys, outcome)
    return outcome


def _found(keys: TaskKeys, group: Sequence[Instance]) -> _Found:
    attack = keys.attack
    answers = {
        instance.args[1].view: instance.resps[0]
        for instance in group
        if instance.args[1].view.name not in attack.optional or isinstance(instance.resps[0], TokenStats)
    }
    unequal = len({answer.n_chars for answer in answers.values() if isinstance(answer, TokenStats)}) > 1
    if refused := next((answer for answer in answers.values() if isinstance(answer, Unscored)), None):
        return _Found(TextScore(math.nan), why=refused.reason, silent=refused.whole_task, common_part=unequal)
    length = TextScore(math.nan, len(common_part(list(answers.values()))[0]), next(iter(answers.values())).truncated)
    found = _Found(length, common_part=unequal)
    try:
        if attack.fitted:
            return found._replace(features=attack.features({view.name: answers[view] for view in answers}, {}))
        seen = {
            name: ({view.name: answers[view] for view in attack.views_of(options)}, options)
            for name, options in keys.variants.items()
        }
        return found._replace(scores={name: attack.score(*given) for name, given in seen.items()})
    except UnscorableError as error:
        return _Found(TextScore(math.nan), why=str(error), common_part=unequal)


def _learnt(keys: TaskKeys, docs: Mapping[str, Mapping[str, Any]], found: Mapping[str, _Found]) -> dict[str, _Found]:
    """With the scores that the documents of all ranks teach: from features, or the choice among variants."""
    own = {
        name: (
            Scored(int(doc["label"]), math.nan, name, str(doc["cluster"])),
            found[name].features or list(found[name].scores.values()),
        )
        for name, doc in docs.items()
    }
    everything = {name: row for part in gathered(own) for name, row in part.items()}
    width = max((len(features) for _, features in everything.values()), default=0)
    items = [item for item, _ in everything.values()]
    table = np.array([features or [math.nan] * width for _, features in everything.values()]).reshape(len(items), width)
    scores = crossfit_scores(table, items) if keys.attack.fitted else crossfit_choice(table.T, items)
    by_id = dict(zip(everything, map(Learnt, scores.tolist()), strict=True))
    few = "too few texts of a class in either half to learn from" if all(map(math.isnan, by_id.values())) else ""
    name = "none" if keys.attack.fitted else CHOSEN
    return {id: one._replace(scores={name: by_id[id], **one.scores}, why=one.why or few) for id, one in found.items()}


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
