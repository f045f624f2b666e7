"""What the results say of themselves, under ``metadata.midistill``, and what a run says of a split."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any
from weakref import WeakSet

from midistill_tasks import __version__
from midistill_tasks.harness.keys import TaskKeys
from midistill_tasks.harness.scores import Outcome
from midistill_tasks.splits.documents import Documents

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


def about(
    keys: TaskKeys, documents: Documents, scored: Sequence[tuple[str, int]], outcome: Outcome, ranks: int
) -> dict[str, Any]:
    """How a task's figures came about.

    Args:
        keys: the task's.
        documents: of its split.
        scored: id and label of the documents that the whole run scores.
        outcome: empty before the run. It knows this rank's texts: with several ranks nothing is counted from it.
        ranks: of the run.
    """
    counts = dict(documents.counts)
    if ranks == 1:
        if outcome.scores and not outcome.silent:
            counts["unscored"] = sum(math.isnan(text.score) for text in outcome.scores.values())
        if outcome.common_part:
            counts["common_part"] = outcome.common_part
        counts["truncated"] = sum(text.truncated for text in outcome.scores.values())
    listed = "\n".join(sorted(f"{name}{label}" for name, label in scored))
    return {
        "attack": keys.attack.name,
        "split": keys.split_name,
        "valid_for": keys.valid_for,
        "independent_coins": keys.options.texts.independent_coins or bool(keys.split and keys.split.independent_coins),
        "options": keys.options.flat(keys.attack.name),
        "counts": counts,
        "unscored_reasons": dict(outcome.reasons),
        "data_sha256": hashlib.sha256(listed.encode()).hexdigest(),
        **({"data_commits": dict(documents.commits)} if documents.commits else {}),
        "versions": {"midistill": __version__}
        | {name: version(name) for name in ("lm_eval", "torch", "transformers", "numpy")},
    }
