"""What every backend of causal models must pass: the figures of `hf` in float32 on the same weights, in any order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from midistill_tasks.scoring.requests import ViewRequest
from midistill_tasks.views import AFTER_SHOTS, TEXT, Unscored

ALL = ("logprob", "mean", "std")


def views(texts: Sequence[str], shots: Sequence[str]) -> list[ViewRequest]:
    """Each text with and without its first token, alone and after shots."""
    made = [ViewRequest(text, TEXT, first_token=first) for text in texts for first in ("skip", "prefix", "always")]
    return made + [
        ViewRequest(text, AFTER_SHOTS, tuple(shots), first) for text in texts for first in ("skip", "prefix", "always")
    ]


def assert_same(
    got: Sequence[Any], expected: Sequence[Any], tolerance: float = 1e-4, statistics: Sequence[str] = ALL
) -> None:
    """Tokens, places and hits are equal, figures relative to the greatest of their text; or both have none."""
    assert len(got) == len(expected)
    for one, other in zip(got, expected, strict=True):
        assert isinstance(one, Unscored) == isinstance(other, Unscored), (one, other)
        if isinstance(one, Unscored):
            assert one == other
            continue
        assert (one.n_chars, one.truncated, one.words) == (other.n_chars, other.truncated, other.words)
        assert one.tokens.tolist() == other.tokens.tolist()
        assert list(one.ends) == list(other.ends)
        assert one.greedy.tolist() == other.greedy.tolist()
        for name in statistics:
            mine, theirs = getattr(one, name), getattr(other, name)
            np.testing.assert_allclose(mine, theirs, rtol=0, atol=tolerance * np.abs(theirs).max(), err_msg=name)


def conforms(
    lm: Any, hf: Any, texts: Sequence[str], ask: Callable[[Any, Sequence[Any]], list[Any]], **how: Any
) -> None:
    """Figures of `lm` against those of `hf`, and against its own in another order and one by one.

    Args:
        lm: of the backend.
        hf: the same weights in float32, with the same ``max_length``.
        texts: five of them, and what is made of these: short ones, one too long, several scripts.
        ask: the evaluator's way, see ``scoring.ask``.
        how: tolerance and statistics, see `assert_same`.
    """
    length = max(2, 2 * hf.max_length // len(hf.tok_encode(texts[1])))
    asked = views([*texts[:5], "a", "one two", "Żółć 東京 🙂", " ".join([texts[1]] * length)], texts[6:7])
    expected, got = ask(hf, asked), ask(lm, asked)
    assert sum(not isinstance(answer, Unscored) for answer in expected) > 40
    assert sum(getattr(answer, "truncated", False) for answer in expected) == 6
    assert_same(got, expected, **how)
    assert_same(ask(lm, asked[::-1])[::-1], got, 1e-5, how.get("statistics", ALL))
    some = asked[:: len(asked) // 6]
    assert_same([ask(lm, [request])[0] for request in some], ask(lm, some), 1e-5, how.get("statistics", ALL))
