"""What all servers share. The harness's LM says where a server is and how it is asked; texts go there as token ids.

Before the first text a probe finds out whether the answers mean what they should, since servers differ in silence.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from midistill_tasks.scoring.backends.server.http import SHOWN, Refusal, as_they_come, ask
from midistill_tasks.scoring.protocol import (
    Encoded,
    HarnessScorer,
    Job,
    Result,
    ScoringStoppedError,
    decoded_ends,
    ends_of,
)
from midistill_tasks.views import Statistic

PROBE = "one two three four five six seven eight nine ten. " * 3
_AGREEMENT = 0.9
_ROUNDING = 1e-4
_REPEATED = 0.1
"""Nats: more than the order of sums in bfloat16 does."""


class Echo(NamedTuple):
    """What a server says of a prompt, position by position; the generated token is not in it.

    Attributes:
        logprobs: of each token; None where nothing predicts it.
        best: the highest log-probability there, or None where the server does not say.
        tokens: as the server names them, an id or a string; or None where it does not.
        tops: the likeliest token there, named likewise, or None.
    """

    logprobs: Sequence[float | None]
    best: Sequence[float | None]
    tokens: Sequence[int | str | None]
    tops: Sequence[int | str | None]


class Probed(NamedTuple):
    """Why a server cannot be used, or what tells its model apart, and whether it names the likeliest tokens."""

    refusal: str
    identity: str = ""
    greedy: bool = False


class ServerScorer(HarnessScorer):
    """Scores jobs by requests: as many at once as the LM's ``num_concurrent``, of ``batch_size`` prompts each."""

    def __init__(self, lm: Any) -> None:
        super().__init__(lm)
        self.place = f"{lm.base_url} ({lm.model})"

    def refuses(self) -> str | None:
        """What the probe says of the server; asked once."""
        return self._probed.refusal or None

    @property
    def gives(self) -> frozenset[Statistic]:
        """``greedy`` where the server names the likeliest token."""
        known: frozenset[Statistic] = frozenset({"logprob"})
        return known | {"greedy"} if self._probed.greedy else known

    def identity(self) -> str | None:
        """Address, name and what the server answered to the probe, to three digits."""
        return self._probed.identity or None

    @cached_property
    def _probed(self) -> Probed:
        if getattr(self.lm, "tokenizer", None) is None or not self.lm.tokenized_requests:
            return Probed("texts go to the server as token ids: name its tokenizer with --model_args tokenizer=…")
        ids = self.encode(PROBE).ids[: self.lm.max_length]
        changed = (*ids[:-1], next(token for token in ids if token != ids[-1]))
        try:
            (echo,) = self._first(ids)
            self._check_tokens(ids, echo)
            (other,) = self._asked([changed])
            _about(changed, other)
            _check_places(echo, other)
        except Refusal as error:
            return Probed(f"{self.place} {error}")
        logprobs = np.array(echo.logprobs[1:], dtype=float)
        signs = np.where(np.arange(len(logprobs)) % 2, 1.0, -1.0)
        answers = [round(float(np.mean(weights * logprobs)), 3) for weights in (1.0, signs)]
        identity = json.dumps([type(self.lm).__name__, self.lm.base_url, self.lm.model, answers])
        return Probed("", f"server:{hashlib.sha256(identity.encode()).hexdigest()}", _known(echo.best[1:]))

    def _first(self, ids: Sequence[int]) -> list[Echo]:
        """Raises Refusal, and says so where the server takes texts alone."""
        try:
            return self._asked([ids])
        except Refusal as error:
            try:
                ask(self.lm, [PROBE])
            except Refusal:
                raise error from None
            raise Refusal(
                "takes no token ids as a prompt, as llama-cpp-python's server does not: use another server, or --model "
                "llamacpp with the GGUF file"
            ) from None

    def _check_tokens(self, ids: Sequence[int], echo: Echo) -> None:
        """Raises Refusal where the answer to the probe is not about these tokens."""
        _about(ids, echo)
        own = [self._names(token) for token in ids]
        named = [index for index, token in enumerate(echo.tokens) if token is not None]
        same = sum(echo.tokens[index] in own[index] for index in named)
        if same < _AGREEMENT * len(named):
            raise Refusal(
                f"reads other tokens than the tokenizer makes ({same} of {len(named)} are the same): name the served "
                "model's own with --model_args tokenizer=…"
            )

    def _names(self, token: int) -> set[int | str]:
        """All that a server may call a token."""
        names: set[int | str] = {token, f"token_id:{token}", self._decode([token])}
        if hasattr(self.lm.tokenizer, "convert_ids_to_tokens"):
            word = str(self.lm.tokenizer.convert_ids_to_tokens(token))
            names |= {word, word.replace("▁", " ").replace("Ġ", " ")}
        return names

    def _decode(self, ids: Sequence[int]) -> str:
        return str(self.lm.decode_batch([list(ids)])[0])

    def encode(self, text: str) -> Encoded:
        """As ``--model hf`` does: a tokenizer of transformers with what it puts around a text by default."""
        if self.lm.tokenizer_backend == "huggingface":
            tokenizer = self.lm.tokenizer
            ids = tuple(tokenizer(text, verbose=False)["input_ids"])
            return Encoded(ids, lambda: ends_of(tokenizer, text, ids))
        ids = tuple(self.lm.tok_encode(text))
        return Encoded(ids, lambda: decoded_ends(ids, self._decode))

    def shared_args(self) -> dict[str, Any]:
        """A reference model is another ``model`` at the same address, unless its arguments say another."""
        lm = self.lm
        name = getattr(lm.tokenizer, "name_or_path", None)
        return {
            "base_url": lm.base_url,
            "tokenizer_backend": lm.tokenizer_backend,
            "num_concurrent": lm._concurrent,
            "max_retries": lm.max_retries,
            "max_length": lm.max_length + 1,
            "timeout": lm.timeout,
            "batch_size": lm._batch_size,
        } | ({"tokenizer": name} if name and lm.tokenizer_backend == "huggingface" else {})

    def score(self, jobs: Sequence[Job], done: Callable[[Job, Result], None]) -> None:
        """Longest first; each answer is handed on as it comes.

        Raises:
            ScoringStoppedError: the server no longer answers, or not as it should.
        """
        ordered = sorted(jobs, key=lambda job: -len(job.prefix) - len(job.ids))
        batches = [ordered[start : start + self.batch_size] for start in range(0, len(ordered), self.batch_size)]
        with ThreadPoolExecutor(max(1, self.lm._concurrent)) as pool:
            for batch, answers in as_they_come(pool, self._batch, batches, 2 * max(1, self.lm._concurrent)):
                for job, result in zip(batch, answers, strict=True):
                    done(job, result)

    @property
    def batch_size(self) -> int:
        """Prompts a request."""
        return int(self.lm._batch_size)

    def _batch(self, jobs: Sequence[Job]) -> list[Result]:
        rows = [job.prefix + job.ids for job in jobs]
        try:
            echoes = self._asked(rows)
            for ids, echo in zip(rows, echoes, strict=True):
                _about(ids, echo)
        except Refusal as error:
            raise ScoringStoppedError(f"{self.place} {error}") from None
        return [self._result(job, echo) for job, echo in zip(jobs, echoes, strict=True)]

    def _result(self, job: Job, echo: Echo) -> Result:
        start = len(job.prefix) + job.first
        logprob = np.array(echo.logprobs[start:], dtype=np.float32)
        if not _known(best := echo.best[start:]):
            return Result(logprob)
        return Result(logprob, greedy=logprob >= np.array(best, dtype=np.float32))

    def _asked(self, rows: Sequence[Sequence[int]]) -> list[Echo]:
        """What the server says of each prompt; raises Refusal where it does not."""
        outputs = ask(self.lm, rows)
        try:
            echoes = self.parse(outputs)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError):
            raise Refusal(
                f"gives no log-probabilities of a prompt: it answered {json.dumps(outputs)[:SHOWN]}"
            ) from None
        if len(echoes) != len(rows):
            raise Refusal(f"answered {len(echoes)} of {len(rows)} prompts of a request: use --batch_size 1")
        return echoes

    def parse(self, outputs: Any) -> list[Echo]:
        """Each server's own.

        Raises:
            Exception: of another form than the server documents.
        """
        raise NotImplementedError


def _about(ids: Sequence[int], echo: Echo) -> None:
    """Raises Refusal where the echo is not of these tokens, one by one."""
    got, n = len(echo.logprobs), len(ids)
    if got <= 1 < n:
        raise Refusal(
            "answers with the generated token only: it does not know echo, as llama.cpp's own server does not"
        )
    if got < n:
        raise Refusal(
            f"gave back {got} of {n} tokens, so that it cuts texts in silence: say how many it reads with --model_args "
            "max_length=…"
        )
    if got > n:
        raise Refusal(f"gave back {got} tokens for {n}: it puts tokens of its own around a prompt")
    if echo.logprobs[0] is not None and len(echo.logprobs) > 1 and None in echo.logprobs[1:]:
        raise Refusal("gives a log-probability of the first token and none of a later one")
    if any(value is None or not value <= _ROUNDING for value in echo.logprobs[1:]):
        raise Refusal("gives no log-probability, or one above 0, of a token")
    strange = [index for index, token in enumerate(echo.tokens) if isinstance(token, int) and token != ids[index]]
    if strange:
        raise Refusal(f"gave back other tokens than it was asked about ({len(strange)} of {n})")


def _check_places(echo: Echo, other: Echo) -> None:
    """Raises Refusal where figures do not stand at their tokens, by two prompts that differ in their last token alone.

    What is said of a token hangs on those before it. The likeliest token in the last place must not change, then, nor
    anything before it; where all is one place too late or too early, one of these does.
    """
    ours, theirs = (np.array(each.logprobs[1:], dtype=float) for each in (echo, other))
    moved = np.abs(ours - theirs)[:-1]
    if (most := float(moved[:-1].max())) > _REPEATED:
        raise Refusal(
            f"gives other figures the second time, by up to {most:.2f} nats a token: have it keep no prefixes of "
            "prompts (vLLM: --no-enable-prefix-caching)"
        )
    late = False
    if echo.best[-1] is not None and other.best[-1] is not None:
        gap = abs(echo.best[-1] - other.best[-1])
        late = gap > _REPEATED or (echo.tops[-1] != other.tops[-1] and gap > _ROUNDING)
    if late or moved[-1] > _REPEATED:
        raise Refusal(
            "is off by one: what it says of a token depends on a token that comes after, as with llama-cpp-python "
            "where a prompt has no beginning-of-text token; use another server"
        )


def _known(values: Sequence[float | None]) -> bool:
    return all(value is not None for value in values)
