"""Requests to a server as the harness's LM class makes them: payload, headers, retries, several at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

SHOWN = 300
"""Characters of a server's own words that a message quotes."""
_TOO_MANY, _SERVER_ERROR = 429, 500

Item = TypeVar("Item")
Made = TypeVar("Made")


class Refusal(ValueError):  # noqa: N818
    """An answer that cannot be used; the message is a clause about the server."""


class _Passing(Exception):  # noqa: N818
    """What may be over at the next try; the message is for people."""


def ask(lm: Any, rows: Sequence[Sequence[int] | str]) -> Any:
    """The server's answer to a request with these prompts, token ids or texts.

    Raises:
        Refusal: there is none, after as many tries as the LM allows.
    """
    from tenacity import RetryError, Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

    trying = Retrying(
        stop=stop_after_attempt(max(1, lm.max_retries)),
        wait=wait_exponential(multiplier=0.5, min=0.5, max=20),
        retry=retry_if_exception_type(_Passing),
    )
    try:
        return trying(_post, lm, rows)
    except RetryError as error:
        reason = error.last_attempt.exception()
        raise Refusal(f"does not answer ({reason}; asked {max(1, lm.max_retries)} times)") from None


def _post(lm: Any, rows: Sequence[Sequence[int] | str]) -> Any:
    import requests

    prompts = [row if isinstance(row, str) else list(row) for row in rows]
    payload = lm._create_payload(prompts, generate=False, seed=lm._seed, eos=None)
    given = {"json": payload, "headers": lm.header, "verify": lm.verify_certificate, "timeout": lm.timeout}
    try:
        response = requests.post(lm.base_url, **given)  # noqa: S113  the LM's
    except requests.RequestException as error:
        raise _Passing(type(error).__name__) from None
    if response.status_code == _TOO_MANY or response.status_code >= _SERVER_ERROR:
        raise _Passing(f"HTTP {response.status_code}: {response.text[:SHOWN]}")
    if not response.ok:
        raise Refusal(
            f"refuses {max(map(len, rows))} tokens at once (HTTP {response.status_code}: {response.text[:SHOWN]}); "
            "where they are too many, say how many it reads with --model_args max_length=…"
        )
    try:
        return response.json()
    except ValueError:
        raise Refusal(f"answers with no JSON: {response.text[:SHOWN]}") from None


def as_they_come(
    pool: ThreadPoolExecutor, function: Callable[[Item], Made], items: Sequence[Item], ahead: int
) -> Iterator[tuple[Item, Made]]:
    """Item and answer; no more than `ahead` are asked before they are taken, and none after one that failed."""
    waiting: dict[Future[Made], Item] = {}
    rest = iter(items)
    failed: BaseException | None = None
    while True:
        while failed is None and len(waiting) < ahead and (item := next(rest, None)) is not None:
            waiting[pool.submit(function, item)] = item
        if not waiting:
            break
        ready, _ = wait(waiting, return_when=FIRST_COMPLETED)
        for one in ready:
            item = waiting.pop(one)
            if error := one.exception():
                failed = failed or error
            else:
                yield item, one.result()
    if failed is not None:
        raise failed
