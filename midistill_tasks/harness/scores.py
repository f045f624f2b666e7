"""From the answers of scoring to one score a document."""

from __future__ import annotations

import logging
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from lm_eval.api.instance import Instance

from midistill_tasks.attacks.base import Attack
from midistill_tasks.attacks.judging import UNDEFINED, Found, TextScore, filters_of, judged_text, taught
from midistill_tasks.errors import warn_once
from midistill_tasks.harness.keys import TaskKeys
from midistill_tasks.metrics import Scored
from midistill_tasks.metrics.crossfit import Learnt
from midistill_tasks.scoring.plan import Answer
from midistill_tasks.views import Generated, View

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class Outcome:
    """What a task's requests came to, on this rank.

    Attributes:
        scores: by the document's id, of the first filter.
        reasons: why texts have no score → how many, on all ranks.
        silent: whether that holds for the whole task, so that it reports nothing.
        common_part: how many texts are judged by the beginning that all views of the attack cover.
        beside: of an attack that `picks`: by id, what a sample says of the attack whose score it has, and all scores.
        chosen: of such a one: the attack by which each half of the texts is judged.
    """

    scores: Mapping[str, TextScore] = field(default_factory=dict)
    reasons: Mapping[str, int] = field(default_factory=dict)
    silent: bool = False
    common_part: int = 0
    beside: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    chosen: tuple[str, ...] = ()

    @property
    def any(self) -> bool:
        """Whether there is a figure."""
        return not self.silent and any(not math.isnan(text.score) for text in self.scores.values())


def outcome(keys: TaskKeys, instances: Sequence[Instance]) -> Outcome:
    """Scores every document. In each instance only the scores stay, which is all that memory and samples keep."""
    answers, docs = answers_of(instances), {instance.doc["id"]: instance.doc for instance in instances}
    found = judged(keys.attack, keys.variants, docs, answers)
    filters = filters_of(keys.variants)
    for instance in instances:
        scores = found[instance.doc["id"]].scores
        instance.resps = [repr(instance.resps[0])]
        instance.filtered_resps |= {name: scores.get(name, math.nan) for name in filters}
    why = reasons(found, filters[0])
    made = Outcome(
        {name: one.length._replace(score=one.scores.get(filters[0], math.nan)) for name, one in found.items()},
        dict(sum(map(Counter, gathered(why)), Counter())),
        any(one.silent for one in found.values()),
        sum(one.common_part for one in found.values()),
        {name: one.beside for name, one in found.items() if one.beside},
        chosen_of(found),
    )
    if not made.silent:
        _say(keys, made, why)
    return made


def unjudged(keys: TaskKeys, instances: Sequence[Instance]) -> Outcome:
    """Of a shard: no text has a score, which would be one among the split's."""
    warn_once(
        f"[{keys.split_name}] a shard has no figures: `midistill attack {keys.options.run.save_stats}` joins them once "
        "all are there"
    )
    for instance in instances:
        instance.resps = [repr(instance.resps[0])]
        instance.filtered_resps |= dict.fromkeys(filters_of(keys.variants)[:1], math.nan)
    return Outcome({instance.doc["id"]: TextScore(math.nan) for instance in instances})


def chosen_of(found: Mapping[str, Found]) -> tuple[str, ...]:
    """The attacks by which the halves are judged, where one was chosen for each."""
    by_half = {one.beside["half"]: one.beside["attack"] for one in found.values() if one.beside.get("attack")}
    return tuple(by_half[half] for half in sorted(by_half))


def answers_of(instances: Sequence[Instance]) -> dict[str, dict[View, Answer | Generated]]:
    """Document's id → view → its statistics, or why there are none."""
    answers: dict[str, dict[View, Answer | Generated]] = defaultdict(dict)
    for instance in instances:
        answers[instance.doc["id"]][instance.args[1].view] = instance.resps[0]
    return answers


def reasons(found: Mapping[str, Found], filter_name: str) -> dict[str, int]:
    """Why texts have no score → how many."""
    return dict(
        Counter(one.why or UNDEFINED for one in found.values() if math.isnan(one.scores.get(filter_name, math.nan)))
    )


def judged(
    attack: Attack,
    variants: Mapping[str, Mapping[str, Any]],
    docs: Mapping[str, Mapping[str, Any]],
    answers: Mapping[str, Mapping[View, Answer | Generated]],
) -> dict[str, Found]:
    """An attack on documents: by id what their answers came to.

    Args:
        attack: which.
        variants: filter → options, see `Options.variants`.
        docs: by id, with label and cluster; with several ranks this one's.
        answers: of each document, the attack's views (others are not looked at).
    """
    found = {name: judged_text(attack, variants, answers[name]) for name in docs}
    return _learnt(attack, docs, found) if attack.learns(variants) else found


def _learnt(attack: Attack, docs: Mapping[str, Mapping[str, Any]], found: Mapping[str, Found]) -> dict[str, Found]:
    """With the scores that the documents of all ranks teach."""
    own = {
        name: (Scored(int(doc["label"]), math.nan, name, str(doc["cluster"])), found[name].taught_by)
        for name, doc in docs.items()
    }
    everything = {name: row for part in gathered(own) for name, row in part.items()}
    width = max((len(features) for _, features in everything.values()), default=0)
    items = [item for item, _ in everything.values()]
    table = np.array([features or [math.nan] * width for _, features in everything.values()]).reshape(len(items), width)
    made = taught(attack, table, items)
    row = {name: number for number, name in enumerate(everything)}
    return {
        name: one._replace(
            scores={made.filter: Learnt(made.scores[row[name]]), **one.scores},
            beside=made.beside(row[name]),
            why=one.why or made.why,
        )
        for name, one in found.items()
    }


def gathered(value: T) -> list[T]:
    """Every rank's value, by the group of processes that torch has; this one's alone without."""
    from torch import distributed

    if not distributed.is_available() or not distributed.is_initialized() or distributed.get_world_size() == 1:
        return [value]
    values: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values


def _say(keys: TaskKeys, outcome: Outcome, why: Mapping[str, int]) -> None:
    count = len(outcome.scores)
    if outcome.chosen:
        logger.info(
            "[%s] each half is judged by what is strongest on the other: %s", keys.task, ", ".join(outcome.chosen)
        )
    for reason, texts in why.items():
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
