"""How a run of the harness ends: with a sentence where the input is at fault, and with what is missing."""

from __future__ import annotations

import functools
import logging
import sys
from types import ModuleType, TracebackType
from typing import Any

from midistill_tasks.downloads import remedy
from midistill_tasks.errors import InputError

logger = logging.getLogger(__name__)


def say_input_errors() -> None:
    """Where an `InputError` ends a program, its sentence is printed in place of a traceback; may be called again.

    Whoever calls from Python gets the exception as ever; with ``--verbosity DEBUG`` the log has the traceback.
    """
    before = sys.excepthook
    if getattr(before, "__module__", "") == __name__:
        return

    def say(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        if not issubclass(kind, InputError) and (why := _of_hub(error)):
            kind, error = InputError, InputError(why)
        if issubclass(kind, InputError) and not hasattr(sys, "ps1"):
            logger.debug("", exc_info=(kind, error, traceback))
            print(f"midistill: {error}", file=sys.stderr)
        else:
            before(kind, error, traceback)

    sys.excepthook = say


def _of_hub(error: BaseException) -> str:
    """The harness loads the model that is attacked, and says what the hub answered in sixty lines."""
    if not isinstance(error, OSError):
        return ""
    why = remedy(error, "NAME")
    return f"{' '.join(str(error).split())[:200]}: it {why}" if why else ""


def add_last_words(command: ModuleType) -> None:
    """Lets ``lm_eval run`` end with what is missing (`missing.say`); a run without our tasks does not import that."""
    original = command.Run._execute

    @functools.wraps(original)
    def execute(*args: Any, **kwargs: Any) -> None:
        original(*args, **kwargs)
        missing = sys.modules.get("midistill_tasks.results.missing")
        if missing is not None:
            missing.say()

    command.Run._execute = staticmethod(execute)
