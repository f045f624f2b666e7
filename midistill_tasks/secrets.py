"""Access tokens that were typed where they do not belong: never in what a run logs, and never in what it writes."""

from __future__ import annotations

import functools
import logging
import re
from typing import Any

HIDDEN = "***"
_TOKEN = re.compile(r"\b(hf_|sk-|github_pat_|ghp_)[A-Za-z0-9_-]{16,}")
_IN_URL = re.compile(r"(?<=://)[^/\s:@'\"]*:[^/\s@'\"]+(?=@)")
_PARAMETER = re.compile(r"([?&](?:token|key|api[-_]key|access_token)=)[^&\s'\",]+", re.IGNORECASE)


def redact(value: Any) -> Any:
    """The same text, list or mapping with tokens (of the hub, OpenAI, GitHub) and the passwords of URLs hidden."""
    if isinstance(value, str):
        hidden = _TOKEN.sub(lambda found: found[1] + HIDDEN, value)
        return _PARAMETER.sub(lambda found: found[1] + HIDDEN, _IN_URL.sub(HIDDEN, hidden))
    if isinstance(value, dict):
        return {redact(key): redact(each) for key, each in value.items()}
    if isinstance(value, list | tuple) and type(value) in (list, tuple):
        return type(value)(redact(each) for each in value)
    return value


def hide_in_logs() -> None:
    """From now on in all log records of this process; may be called again."""
    made = logging.getLogRecordFactory()
    if getattr(made, "__module__", "") == __name__:
        return

    @functools.wraps(made)
    def factory(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = made(*args, **kwargs)
        try:
            said = record.getMessage()
        except Exception:  # the handler says what is wrong with it
            return record
        if (hidden := redact(said)) != said:
            record.msg, record.args = hidden, ()
        return record

    factory.__module__ = __name__
    logging.setLogRecordFactory(factory)


def hide_in_results(tracker: Any) -> None:
    """In what the harness's `EvaluationTracker` writes; may be called again."""
    original = tracker.save_results_aggregated
    if hasattr(original, "__wrapped__"):
        return

    @functools.wraps(original)
    def save_results_aggregated(self: Any, results: dict[str, Any], samples: Any = None) -> Any:
        return original(self, results=redact(results), samples=samples)

    tracker.save_results_aggregated = save_results_aggregated
