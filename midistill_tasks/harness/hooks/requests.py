"""How the harness's model classes come to answer our requests, and its trackers to write what we measured."""

from __future__ import annotations

import functools
import logging
from pathlib import Path
from typing import Any

from midistill_tasks.harness.hooks.ending import say_input_errors
from midistill_tasks.results.loggers import log_what_is_written
from midistill_tasks.results.strict import write_strictly
from midistill_tasks.secrets import hide_in_results


def answer_requests() -> None:
    """Gives the harness's model classes the method that answers our request type; may be called again."""
    say_input_errors()
    from lm_eval.api.model import LM, CachingLM
    from lm_eval.loggers import EvaluationTracker, TrackioLogger, WandbLogger

    from midistill_tasks.harness.stats import answer
    from midistill_tasks.scoring.requests import REQUEST_TYPE
    from midistill_tasks.scoring.rolling import ROLLING, rolling
    from midistill_tasks.scoring.use_cache import guard_answers

    setattr(LM, REQUEST_TYPE, answer)
    setattr(LM, ROLLING, rolling)
    guard_answers(CachingLM)
    hide_in_results(EvaluationTracker)
    write_strictly(EvaluationTracker)
    log_what_is_written(WandbLogger)
    log_what_is_written(TrackioLogger)
    # What we say in a run belongs into the run's log, at its level and in its format.
    logging.getLogger("midistill_tasks").parent = logging.getLogger("lm_eval")


def look_at_caches() -> None:
    """``--use_cache`` with a file that is damaged or cannot be written: a sentence in place of a traceback."""
    from lm_eval.api.model import CachingLM

    original = CachingLM.__init__
    if hasattr(original, "__wrapped__"):
        return

    @functools.wraps(original)
    def init(self: Any, lm: Any, cache_db: str) -> None:
        from midistill_tasks.scoring.use_cache import check_file

        check_file(Path(cache_db))
        original(self, lm, cache_db)

    CachingLM.__init__ = init
