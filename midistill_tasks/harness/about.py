"""What the results say of themselves, under ``metadata.midistill``, and what a run says of a split."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any
from weakref import WeakSet

from midistill_tasks import __version__
from midistill_tasks.harness.keys import TaskKeys
from midistill_tasks.harness.scores import Outcome
from midistill_tasks.metrics import Scored
from midistill_tasks.metrics.halves import nonmembers_by_half
from midistill_tasks.metrics.intervals import ENOUGH_DOCUMENTS, quantile
from midistill_tasks.metrics.roc import TPR_BOUNDS, chance_tpr
from midistill_tasks.results.schema import SCHEMA_VERSION
from midistill_tasks.splits.documents import Documents, data_sha256

logger = logging.getLogger(__name__)

_announced: WeakSet[Documents] = WeakSet()


def announce(keys: TaskKeys, documents: Documents) -> None:
    """Logs, once a run, what was left out of a split and for which models its labels are true."""
    if documents in _announced:
        return
    _announced.add(documents)
    counts = ", ".join(f"{name} {count}" for name, count in documents.counts.items() if count)
    logger.info("[%s] %s", keys.split_name, counts)
    logger.info("[%s] labels are valid for %s", keys.split_name, keys.valid_for)
    _say_few_documents(keys, documents)


LISTED = 1000
"""Members that are named in the results of every task; of more there is only their number."""


def _left_out(documents: Documents) -> dict[str, Any]:
    """Which members of a user's own files are not judged, and why."""
    listed = [each._asdict() for each in documents.left_out[:LISTED]]
    more = len(documents.left_out) - len(listed)
    return {"members_left_out": listed, **({"members_left_out_more": more} if more else {})} if listed else {}


def chance(nonmembers: Sequence[int]) -> dict[str, float]:
    """What the TPRs are on average for scores that say nothing: the mean over parts of so many non-members each."""
    levels = {
        name: math.fsum(chance_tpr(count, bound) for count in nonmembers) / len(nonmembers)
        for name, bound in TPR_BOUNDS.items()
    }
    return {name: level for name, level in levels.items() if not math.isnan(level)}


def _nonmembers(keys: TaskKeys, documents: Documents, scored: Sequence[tuple[str, int]]) -> list[int]:
    """Of each part that a TPR is taken on: both halves for an attack that `picks`, else all texts."""
    if not keys.attack.picks or keys.options.shard is not None:  # a shard has no figures
        return [sum(label == 0 for _, label in scored)]
    cluster = dict(zip(documents.docs["id"], documents.docs["cluster"], strict=True))
    return nonmembers_by_half([Scored(label, math.nan, name, cluster[name]) for name, label in scored])


def _say_few_documents(keys: TaskKeys, documents: Documents) -> None:
    sides: dict[int, set[str]] = {0: set(), 1: set()}
    for cluster, label in zip(documents.docs["cluster"], documents.docs["label"], strict=True):
        sides[label].add(cluster)
    fewest = min(map(len, sides.values()))
    if fewest < ENOUGH_DOCUMENTS and len(sides[0] | sides[1]) < len(documents.docs):
        logger.warning(
            "[%s] a side has texts of %d documents only: an interval is value ± %.2f errors (Student's t), not ± 1.96",
            keys.split_name, fewest, quantile(fewest - 1),
        )  # fmt: skip


def about(
    keys: TaskKeys, documents: Documents, scored: Sequence[tuple[str, int]], outcome: Outcome, ranks: int
) -> dict[str, Any]:
    """How a task's figures came about.

    Args:
        keys: the task's.
        documents: of its split.
        scored: id and label of the documents that the whole run scores.
        outcome: empty before the run. Its scores are of this rank: with several ranks nothing is counted from them.
        ranks: of the run.
    """
    counts = dict(documents.counts)
    if ranks == 1:
        if outcome.scores and not outcome.silent:
            counts["unscored"] = sum(math.isnan(text.score) for text in outcome.scores.values())
        if outcome.common_part:
            counts["common_part"] = outcome.common_part
        counts["truncated"] = sum(text.truncated for text in outcome.scores.values())
    whole = scored is documents.listed  # of which there may be many, in every task of every shard
    return {
        "schema_version": SCHEMA_VERSION,
        "attack": keys.attack.name,
        "split": keys.split_name,
        "valid_for": keys.valid_for,
        **documents.coins,
        **({"learnt": True} if keys.learnt else {}),
        **({"chosen": list(outcome.chosen)} if outcome.chosen else {}),
        "options": keys.options.flat(keys.attack.name),
        "counts": counts,
        "unscored_reasons": dict(outcome.reasons),
        **_left_out(documents),
        "chance": chance(_nonmembers(keys, documents, scored)),
        "data_sha256": documents.data_sha256 if whole else data_sha256(scored),
        **({"shard": str(keys.options.shard)} if keys.options.shard else {}),
        **({"data_commits": dict(documents.commits)} if documents.commits else {}),
        "versions": {"midistill": __version__}
        | {name: version(name) for name in ("lm_eval", "torch", "transformers", "numpy")},
    }
