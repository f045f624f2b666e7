"""``--use_cache``: the harness's file of answers, which must neither stop a run nor serve another model's unsaid.

Its keys hold the request alone. MIA and held-out tasks keep their answers elsewhere (`scoring.cache`); here is what
protects the harness's other tasks of the same run.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from midistill_tasks.errors import warn_once
from midistill_tasks.files import writing
from midistill_tasks.scoring.cache import open_cache
from midistill_tasks.scoring.protocol import scorer_of

logger = logging.getLogger(__name__)

_ANSWERED = ("loglikelihood", "loglikelihood_rolling", "generate_until")
"""The methods whose answers the harness keeps."""


def check_file(path: Path) -> None:
    """Sets a damaged file aside, before the harness opens it.

    Raises:
        InputError: it cannot be written.
    """
    with writing(f"--use_cache: {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open("ab").close()
        try:
            with contextlib.closing(sqlite3.connect(path)) as connection:
                found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        except sqlite3.OperationalError:  # another process is at it
            return
        except sqlite3.DatabaseError as error:
            found = str(error)
        if found != "ok":
            os.replace(path, f"{path}.damaged")
            logger.warning("--use_cache: %s is damaged (%s): set aside as %s.damaged", path, found, path)


def guard_answers(kind: Any) -> None:
    """Lets ``CachingLM`` go on without a file that fails in the run, and say where its answers are another model's."""
    original = kind.__getattr__
    if hasattr(original, "__wrapped__"):
        return

    @functools.wraps(original)
    def getattribute(self: Any, name: str) -> Any:
        if name in _ANSWERED and not isinstance(self.dbdict, Answers):
            self.dbdict = Answers(self.dbdict)
            self.lm.set_cache_hook(self.get_cache_hook())
            _say_whose(self.lm, self.dbdict)
        return original(self, name)

    kind.__getattr__ = getattribute


class Answers:
    """The harness's store; what cannot be read of it is not there, and what cannot be written is not kept."""

    def __init__(self, store: Any) -> None:
        self.store, self.filename, self._lost = store, store.filename, False

    def __len__(self) -> int:
        return self._done(lambda: len(self.store)) or 0

    def __contains__(self, key: str) -> bool:
        return self[key] is not None

    def __getitem__(self, key: str) -> Any:
        return self._done(lambda: self.store.get(key))

    def __setitem__(self, key: str, answer: Any) -> None:
        self._done(lambda: self.store.__setitem__(key, answer))

    def commit(self) -> None:
        """To the disk."""
        self._done(self.store.commit)

    def _done(self, work: Callable[[], Any]) -> Any:
        if self._lost:
            return None
        try:
            return work()
        except Exception as error:  # SQLite's, or anything that a damaged pickle raises
            self._lost = isinstance(error, sqlite3.Error)
            went_on = "so nothing more is kept there" if self._lost else "and what is damaged is asked again"
            warn_once(f"--use_cache: {self.filename} fails ({error}), {went_on}")
            return None


def _say_whose(lm: Any, answers: Answers) -> None:
    """Warns where the harness's answers are those of another model; our own file beside it remembers whose they are."""
    scorer = scorer_of(lm)
    cache = open_cache(scorer) if scorer else None
    if cache is None:  # nothing tells this model from another
        return
    name = Path(answers.filename).name
    key, model = hashlib.sha256(f"begun by: {name}".encode()).digest(), cache.model.encode()
    with contextlib.closing(cache):
        begun_by = cache.read(key)
        if begun_by is None and not len(answers):
            cache.write(key, model)
        elif begun_by != model:
            whose = "another model" if begun_by else "a run that did not keep which model it was of"
            warn_once(
                f"--use_cache: {answers.filename} was begun by {whose}, and the harness takes its answers for those of "
                "any: give each model a file of its own (mia_… and heldout_… tasks tell models apart by themselves)"
            )
