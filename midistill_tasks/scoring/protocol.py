"""What scoring asks of a backend. A new one is a class with the decorator, and its line in `SCORERS`.

    @scorer("VLLM", gives={"logprob", "greedy"})        # the harness's LM class, by name
    class VLLMScorer(HarnessScorer):
        def score(self, jobs, done): …

`HarnessScorer` gives it what every LM of the harness has: tokens, lengths, a reference model of its own kind.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

from midistill_tasks.registry import Registry
from midistill_tasks.views import BoolArray, FloatArray, Statistic

logger = logging.getLogger(__name__)

OUR_SUFFIX = ".midistill.db"
"""Of the file beside the harness's, after the name that ``--use_cache`` has."""

Kind = TypeVar("Kind", bound="type[HarnessScorer]")


@dataclass(frozen=True)
class Job:
    """Tokens to score: ``ids[first:]``, each under the model's distribution given all tokens before it and `prefix`.

    `first` is 1 where the first token is only read, 0 where something predicts it: `prefix`, or what comes after it.
    With `gradient` the result holds the norms of the loss's gradient, where the backend gives them. `only` are the
    places in `ids` that are scored instead, rising, where a scorer chose some.
    """

    ids: tuple[int, ...]
    prefix: tuple[int, ...] = ()
    first: int = 1
    gradient: bool = False
    only: tuple[int, ...] | None = None

    @property
    def places(self) -> Sequence[int]:
        """Where in `ids` the tokens stand that are scored."""
        return range(self.first, len(self.ids)) if self.only is None else self.only

    @property
    def scored(self) -> int:
        """n, how many tokens are scored."""
        return len(self.places)

    @property
    def targets(self) -> tuple[int, ...]:
        """The n tokens that are scored."""
        return tuple(self.ids[place] for place in self.places)


@dataclass(frozen=True, eq=False)
class Result:
    """A job's figures, each [n], float32 or bool (`gradient` [3, 3]); those that the backend does not give are None.

    A NaN in `logprob` says that the model's outputs are not finite.
    """

    logprob: FloatArray
    greedy: BoolArray | None = None
    mean: FloatArray | None = None
    std: FloatArray | None = None
    gradient: FloatArray | None = None

    def holds(self, statistics: Collection[Statistic]) -> bool:
        """Whether those of the statistics that are one figure a token are all there."""
        lacks = {"greedy": self.greedy is None, "moments": self.mean is None or self.std is None}
        return not any(lacks.get(name, False) for name in statistics)


@dataclass(frozen=True, eq=False)
class Encoded:
    """A text's tokens.

    Attributes:
        ids: as the model reads them.
        ends: tells, when it is asked, the character of the text at which each token ends; never falling. What it holds
            stays in memory as long as the text's figures: a tokenizer, rather than a model.
    """

    ids: tuple[int, ...]
    ends: Callable[[], Sequence[int]]


class ScoringStoppedError(RuntimeError):
    """A backend that worked does no longer; the message is a clause that begins with what it is."""


class Scorer(Protocol):
    """One model, as scoring knows it.

    Attributes:
        gives: the statistics that its results hold: of logprob, greedy, moments, gradient.
        pseudo: what its log-probabilities are, where a token is predicted from both sides; "" where it is from what
            stands before it. Such a model has no texts after a prefix, and scores the first token, too.
        max_length: tokens that it reads at once, the prefix included.
        prefix_token: what the harness puts in front of a text without context, or None.
        rank: of this process among those that share the work; 0 shows the progress.
        cache_file: where results are kept (``--use_cache``), or None.
    """

    @property
    def gives(self) -> frozenset[Statistic]: ...
    @property
    def pseudo(self) -> str: ...
    @property
    def max_length(self) -> int: ...
    @property
    def prefix_token(self) -> int | None: ...
    @property
    def rank(self) -> int: ...
    @property
    def cache_file(self) -> Path | None: ...

    def refuses(self) -> str | None:
        """A sentence that says why this model cannot be scored, or None."""

    def identity(self) -> str | None:
        """What tells its figures from any other model's, for the cache; None = do not keep them."""

    def encode(self, text: str) -> Encoded:
        """The text's tokens, as the harness makes them by default."""

    def chosen(self, ids: tuple[int, ...]) -> tuple[int, ...] | None:
        """Which of a text's tokens it scores; None = all."""

    def score(self, jobs: Sequence[Job], done: Callable[[Job, Result], None]) -> None:
        """Scores jobs in any order and hands each result to `done` as soon as it is there.

        Raises:
            ScoringStoppedError: it could not finish.
        """

    def reference(self, spec: str) -> AbstractContextManager[Scorer]:
        """The reference model while it is open: `spec` is JSON of its model_args, or "base".

        Raises:
            Exception: of any library, with a reason, where it cannot be had.
        """


class HarnessScorer:
    """What every scorer of a harness LM shares; a backend adds `score`, and what it knows better."""

    at_best: ClassVar[frozenset[Statistic]] = frozenset()
    pseudo = ""

    def __init__(self, lm: Any) -> None:
        self.lm = lm

    @property
    def gives(self) -> frozenset[Statistic]:
        """What the backend gives at best, unless it finds out that a model has less."""
        return self.at_best

    @property
    def max_length(self) -> int:
        """As the harness knows it."""
        return int(self.lm.max_length)

    @property
    def prefix_token(self) -> int | None:
        """The harness's ``prefix_token_id``."""
        token = getattr(self.lm, "prefix_token_id", None)
        return None if token is None else int(token)

    @property
    def rank(self) -> int:
        """The harness's."""
        return int(self.lm.rank)

    @property
    def cache_file(self) -> Path | None:
        """Beside the file that the harness made for ``--use_cache``, one for all ranks; None without that flag."""
        store = getattr(getattr(self.lm, "cache_hook", None), "dbdict", None)
        return None if store is None else Path(re.sub(r"(_rank\d+)?\.db$", "", store.filename) + OUR_SUFFIX)

    def refuses(self) -> str | None:
        """Nothing is refused unless a backend says so."""
        return None

    def identity(self) -> str | None:
        """Nothing is kept unless a backend says what a model is."""
        return None

    def encode(self, text: str) -> Encoded:
        """By the LM's own ``tok_encode``; characters by decoding."""
        ids = tuple(self.lm.tok_encode(text))
        return Encoded(ids, lambda: decoded_ends(ids, lambda part: self.lm.tok_decode(list(part))))

    def chosen(self, ids: tuple[int, ...]) -> tuple[int, ...] | None:
        """All."""
        return None

    def score(self, jobs: Sequence[Job], done: Callable[[Job, Result], None]) -> None:
        """Each backend's own."""
        raise NotImplementedError

    @contextmanager
    def reference(self, spec: str) -> Iterator[Scorer]:
        """Another LM of the same kind; once it is closed nothing here holds it any more."""
        yield type(self)(self.load(json.loads(spec)))

    def shared_args(self) -> dict[str, Any]:
        """Model arguments that a reference model has from this one, unless its own say otherwise."""
        given = {"batch_size": self.lm.batch_size, "max_batch_size": getattr(self.lm, "max_batch_size", None)}
        return given | ({"device": str(self.lm.device)} if hasattr(self.lm, "device") else {})

    def load(self, spec: Mapping[str, Any]) -> Any:
        """Another LM of the same class, with this one's place in the run."""
        logger.info("Loading the reference model %s", spec.get("pretrained", spec))
        other = type(self.lm).create_from_arg_obj(self.shared_args() | dict(spec))
        other._rank, other._world_size = self.lm.rank, self.lm.world_size
        other.cache_hook = self.lm.cache_hook
        return other


def decoded_ends(ids: Sequence[int], decode: Callable[[Sequence[int]], str]) -> list[int]:
    """Where tokens end, from how much text the first so many of them make: for tokenizers without offsets."""
    ends = [0]
    for count in range(len(ids)):
        ends.append(max(ends[-1], len(decode(ids[: count + 1]))))
    return ends[1:]


def ends_of(tokenizer: Any, text: str, ids: tuple[int, ...]) -> Sequence[int]:
    """The character at which each token ends."""
    for special in (True, False) if getattr(tokenizer, "is_fast", False) else ():
        encoded = tokenizer(text, add_special_tokens=special, return_offsets_mapping=True)
        if tuple(encoded["input_ids"]) == ids:
            return list(accumulate((end for _, end in encoded["offset_mapping"]), max))
    return decoded_ends(ids, lambda part: tokenizer.decode(part, skip_special_tokens=True))


SCORERS: Registry[type[HarnessScorer]] = Registry(
    "scorer",
    "midistill.scorers",
    {
        "HFLM": "midistill_tasks.scoring.backends.hf.causal",
        "HFMaskedLM": "midistill_tasks.scoring.backends.hf.mlm",
        "VLLM": "midistill_tasks.scoring.backends.vllm",
        "LlamaCppLM": "midistill_tasks.scoring.backends.llamacpp",
        "LocalCompletionsAPI": "midistill_tasks.scoring.backends.server.completions",
        "LocalChatCompletion": "midistill_tasks.scoring.backends.server.completions",
        "SGLANGGENERATEAPI": "midistill_tasks.scoring.backends.server.sglang",
    },
)
"""By the name of the harness's LM class."""


def scorer(lm_class: str, gives: Collection[Statistic]) -> Callable[[Kind], Kind]:
    """Registers a backend for a class of the harness's LMs and those derived from it; `gives`: at best."""

    def register(made: Kind) -> Kind:
        made.at_best = frozenset(gives)
        SCORERS.register(lm_class, made, made.__module__)
        return made

    return register


def scorer_of(lm: Any) -> Scorer | None:
    """The scorer of a harness LM, or None where no backend knows its class."""
    for kind in type(lm).__mro__:
        if kind.__name__ in SCORERS:
            return SCORERS[kind.__name__](lm)
    return None
