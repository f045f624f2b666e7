"""A backend without a model: its figures stand in a table. Attacks and the task are tested with it, without torch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
from lm_eval.api.model import LM

from midistill_tasks.scoring.protocol import HarnessScorer, Job, Result, scorer


class TableLM(LM):
    """Knows 97 tokens, the bytes of a text by their remainder; `remembers` makes the texts of members likelier."""

    max_length = 400
    prefix_token_id = 96
    batch_size = 1

    def __init__(self, remembers: Sequence[str] = (), pretrained: str = "") -> None:
        super().__init__()
        self.remembers = {self.tok_encode(text) for text in remembers}
        self.scored: list[Job] = []

    def tok_encode(self, text: str) -> tuple[int, ...]:
        return tuple(byte % 96 for byte in text.encode())

    def tok_decode(self, ids: Sequence[int]) -> str:
        return "x" * len(ids)  # one character a token, for texts of plain letters

    def loglikelihood(self, requests: Any) -> Any:
        raise NotImplementedError

    generate_until = loglikelihood

    def loglikelihood_rolling(self, requests: Any) -> list[float]:
        return [-float(len(request.args[0])) for request in requests]


class BareLM(TableLM):
    """The same, but what it gives is no more than the log-probability of each token."""


def figures(job: Job, remembered: bool) -> dict[str, np.ndarray[Any, Any]]:
    """From a hash of what was read: the same for the same tokens after the same prefix, whoever asks."""
    seed = hashlib.sha256(repr((job.prefix, job.targets)).encode()).digest()[:4]
    rng = np.random.default_rng(int.from_bytes(seed, "little"))
    logprob = -rng.exponential(1.0 if remembered else 3.0, job.scored)
    return {
        "logprob": logprob.astype(np.float32),
        "greedy": logprob > -0.7,
        "mean": np.full(job.scored, -2.5, dtype=np.float32),
        "std": np.full(job.scored, 1.5, dtype=np.float32),
    }


@scorer("TableLM", gives={"logprob", "greedy", "moments"})
class TableScorer(HarnessScorer):
    gives_only = ("logprob", "greedy", "mean", "std")

    def score(self, jobs: Sequence[Job], done: Callable[[Job, Result], None]) -> None:
        self.lm.scored.extend(jobs)
        for job in jobs:
            given = figures(job, job.ids in self.lm.remembers)
            done(job, Result(**{name: given[name] for name in self.gives_only}))

    def load(self, spec: Any) -> TableLM:
        return type(self.lm)(pretrained=spec["pretrained"])


@scorer("BareLM", gives={"logprob"})
class BareScorer(TableScorer):
    gives_only = ("logprob",)


def requests(*wanted: Any) -> list[Any]:
    """As the evaluator hands them over."""
    return [SimpleNamespace(args=("", request)) for request in wanted]
