"""Statistics of tokens for later: into a file with ``save_stats``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from weakref import ReferenceType, WeakKeyDictionary, ref

from lm_eval.api.instance import Instance

from midistill_tasks.errors import InputError, warn_once
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
        self.asked = frozenset[str]()
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
    run = (folder, *_answered_by, keys.reference, keys.options.run.first_token, keys.options.shard)
    part = f"-{rank + 1}-of-{ranks}" if ranks > 1 else ""
    path = stats.path_of(folder, about["model"], keys.split_name, keys.options.shard, part)
    kept = _kept.get(documents)
    if kept is None or kept.run != run:
        kept = _kept[documents] = _Kept(run, identity(lm))
        _say_what_is_replaced(path, kept.identity)
    new = _take(kept, instances)
    more = keys.options.shard is not None and not keys.asked <= kept.asked
    kept.asked |= keys.asked
    if not new and not (more and any(kept.views.values())):
        return
    rows = (
        stats.row_of(doc, view, of_view[id], keys.options.run.log_text)
        for id, doc in kept.docs.items()
        for view, of_view in kept.views.items()
        if id in of_view
    )
    of_shard = {"command": command_line(), "asked": sorted(kept.asked)} if keys.options.shard else {}
    stats.write(path, rows, {**about, **of_shard, "ranks": ranks, "model_identity": kept.identity})


def _say_what_is_replaced(path: Path, now: str | None) -> None:
    """A name does not say everything: an adapter's base, or what a folder held before, are other models."""
    with suppress(InputError):  # what cannot be read is no loss
        if path.is_file():
            with stats.reading(path) as file:
                if file.about.get("model_identity") != now:
                    warn_once(f"{path} held the statistics of another model of this name: they are replaced")


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


def identity(lm: Any) -> str | None:
    """What tells a model's statistics from any other's; None = its backend cannot say."""
    scorer = None if lm is None else scorer_of(lm)
    return None if scorer is None else scorer.identity()
