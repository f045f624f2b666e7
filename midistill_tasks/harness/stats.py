"""Statistics of tokens for later: into a file with ``save_stats``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from weakref import ReferenceType, WeakKeyDictionary, ref

from lm_eval.api.instance import Instance

from midistill_tasks.harness.keys import TaskKeys
from midistill_tasks.harness.scores import answers_of
from midistill_tasks.scoring.plan import Answer
from midistill_tasks.scoring.protocol import scorer_of
from midistill_tasks.scoring.run import token_stats
from midistill_tasks.splits.documents import Documents
from midistill_tasks.stats import file as stats
from midistill_tasks.stats.command import command_line
from midistill_tasks.views import Generated, Unscored

_answered_by: list[ReferenceType[Any]] = []
"""The model whose answers came last: the harness does not tell tasks which one is evaluated."""


def answer(lm: Any, requests: Sequence[Any]) -> list[Answer | Generated]:
    """As `token_stats`; this is the method of the harness's models."""
    _answered_by[:] = [ref(lm)]
    return token_stats(lm, requests)


class _Kept:
    """What the tasks of a run on one split gave so far: view → document → statistics."""

    def __init__(self, run: tuple[Any, ...], identity: str | None) -> None:
        self.run, self.identity = run, identity
        self.views: dict[str, dict[str, Answer]] = {}
        self.docs: dict[str, Mapping[str, Any]] = {}


_kept: WeakKeyDictionary[Documents, _Kept] = WeakKeyDictionary()


def save(
    keys: TaskKeys, documents: Documents, instances: Sequence[Instance], about: Mapping[str, Any], rank: int, ranks: int
) -> None:
    """Writes the statistics of a split as far as the tasks before this one and this one asked for them.

    Args:
        keys: the task's.
        documents: of its split.
        instances: answered.
        about: what the results say of the task.
        rank: of this process; each writes the part of its documents.
        ranks: how many there are.

    Raises:
        InputError: the file cannot be written.
    """
    folder = keys.options.run.save_stats
    lm = _answered_by[0]() if _answered_by else None
    if folder is None or not instances:
        return
    run = (folder, id(lm), keys.reference, keys.options.run.first_token, keys.options.shard)
    kept = _kept.get(documents)
    if kept is None or kept.run != run:
        kept = _kept[documents] = _Kept(run, _identity(lm))
    if not _take(kept, instances):
        return
    part = f"-{rank + 1}-of-{ranks}" if ranks > 1 else ""
    rows = (
        stats.row_of(doc, view, of_view[id], keys.options.run.log_text)
        for id, doc in kept.docs.items()
        for view, of_view in kept.views.items()
        if id in of_view
    )
    path = stats.path_of(folder, about["model"], keys.split_name, keys.options.shard, part)
    command = {"command": command_line()} if keys.options.shard else {}
    stats.write(path, rows, {**about, **command, "ranks": ranks, "model_identity": kept.identity})


def _take(kept: _Kept, instances: Sequence[Instance]) -> bool:
    """Takes over what is new; whether anything is."""
    new = False
    kept.docs |= {instance.doc["id"]: instance.doc for instance in instances}
    for id, views in answers_of(instances).items():
        for view, found in views.items():
            if isinstance(found, Generated):
                continue
            of_view = kept.views.setdefault(view.name, {})
            more = id not in of_view or (not isinstance(found, Unscored) and "frequency" in found.has)
            if more and not (isinstance(found, Unscored) and found.whole_task):
                of_view[id], new = found, True
    return new


def likelihood() -> str:
    """What the log-probabilities of the last answers are, where they are not those of a causal model; or ""."""
    lm = _answered_by[0]() if _answered_by else None
    scorer = None if lm is None else scorer_of(lm)
    return "" if scorer is None else scorer.pseudo


def _identity(lm: Any) -> str | None:
    scorer = None if lm is None else scorer_of(lm)
    return None if scorer is None else scorer.identity()
