"""What the user is told: input that can be mended, a run that was asked to end, and warnings that are said once."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterable
from functools import cache

logger = logging.getLogger(__name__)


class InputError(ValueError):
    """Bad input: the message is one sentence with the place (file, row, key) and what to do instead.

    What it quotes of the input stays on its line: line ends and what a terminal obeys are shown as escapes.
    """

    def __init__(self, message: str) -> None:
        super().__init__("".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in message))


class Stopped(KeyboardInterrupt):
    """A run was asked to end: by Ctrl-C, or by SIGTERM, which a batch system sends where its time is up.

    Args:
        number: of the signal.
        at: how far the run was, such as "step 61 of 75"; "" where that is not known.
    """

    def __init__(self, number: int, at: str = "") -> None:
        super().__init__(at)
        self.status = 128 + number  # a program's that ends by this signal


def nearest(word: str, known: Iterable[str]) -> str:
    """Ends an error message: what may have been meant, or nothing where no known word is close.

    >>> nearest("minkp", ["loss", "mink"])
    " (did you mean 'mink'?)"
    >>> nearest("perplexity", ["loss", "mink"])
    ''
    """
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""


@cache
def warn_once(message: str) -> None:
    """Logs a warning the first time that this process meets it: six attacks of one split share their reason."""
    logger.warning(message)
