"""From views of texts to jobs: prefixes, truncation, first tokens, and how much of a text its tokens cover."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from midistill_tasks.errors import InputError, warn_once
from midistill_tasks.scoring.protocol import Job, Result, Scorer
from midistill_tasks.scoring.requests import ViewRequest
from midistill_tasks.views import IntArray, TokenStats, UnscorableError, Unscored

logger = logging.getLogger(__name__)

Answer = TokenStats | Unscored


@dataclass(frozen=True)
class Planned:
    """A request and what its job's figures are about."""

    request: ViewRequest
    words: str
    tokens: IntArray
    truncated: bool
    ends: Callable[[], Sequence[int]]

    def answer(self, result: Result) -> TokenStats:
        """The job's figures with the words that they are of."""
        return TokenStats(
            result.logprob,
            greedy=result.greedy,
            mean=result.mean,
            std=result.std,
            gradient=result.gradient,
            words=self.words,
            tokens=self.tokens,
            truncated=self.truncated,
            ends=self.ends,
        )


@dataclass(frozen=True)
class Plan:
    """What is to be scored, equal jobs once, and what cannot be."""

    jobs: dict[Job, list[Planned]]
    unscored: dict[ViewRequest, Unscored]


def plan(scorer: Scorer, requests: Sequence[ViewRequest]) -> Plan:
    """Tokenises all requests and makes their jobs."""
    jobs: dict[Job, list[Planned]] = defaultdict(list)
    unscored: dict[ViewRequest, Unscored] = {}
    prefixes: dict[tuple[str, ...], tuple[int, ...] | Unscored] = {(): ()}
    if scorer.prefix_token is None and not scorer.pseudo and any(each.first_token == "prefix" for each in requests):
        warn_once(
            "first_token 'prefix' has no effect: the tokenizer has no token for the beginning or end of a text; name "
            "one with --model_args prefix_token_id=…"
        )
    for request in tqdm(requests, desc="Tokenizing texts", disable=scorer.rank != 0, leave=False):
        if request.text in request.shots:
            unscored[request] = Unscored("it is one of the shots that stand in front of the others")
            continue
        if request.shots not in prefixes:
            prefixes[request.shots] = _prefix(scorer, request.shots)
        prefix = prefixes[request.shots]
        if isinstance(prefix, Unscored):
            unscored[request] = prefix
            continue
        try:
            job, planned = _job(scorer, request, prefix)
        except UnscorableError as error:  # there is no such variant of the text
            unscored[request] = Unscored(str(error))
            continue
        if job.scored == 0:
            unscored[request] = Unscored("its only token is the first, which is never scored")
        else:
            jobs[job].append(planned)
    return Plan(dict(jobs), unscored)


def _prefix(scorer: Scorer, shots: tuple[str, ...]) -> tuple[int, ...] | Unscored:
    """Token ids of the ReCaLL prefix: whole shots only, from the first, in at most half of the model's length."""
    room = scorer.max_length // 2
    for count in range(len(shots), 0, -1):
        ids = scorer.encode("".join(shots[:count])).ids
        if len(ids) <= room:
            if count < len(shots):
                kept = (count, len(shots), room)
                logger.warning("recall: only %d of %d shots fit into half of the model's length (%d tokens)", *kept)
            return ids
    reason = InputError(
        f"recall: the first shot alone has {len(ids)} tokens, more than half of the model's {2 * room}; "
        "use a split with shorter texts or --model_args max_length=…"
    )
    logger.error("the tasks of %s", reason)
    return Unscored(str(reason), whole_task=True)


def _job(scorer: Scorer, request: ViewRequest, prefix: tuple[int, ...]) -> tuple[Job, Planned]:
    """A view's tokens, and which words of the text they are."""
    text = request.view.of(request.text)
    encoded = scorer.encode(text)
    lead: tuple[int, ...] = ()
    first_counts = request.first_token == "always" or bool(scorer.pseudo)
    first_by_itself = encoded.ids[:1] == (scorer.prefix_token,)  # the tokenizer puts it there
    if request.first_token == "prefix" and scorer.prefix_token is not None and not (first_by_itself or scorer.pseudo):
        first_counts = True
        lead = () if prefix else (scorer.prefix_token,)
    kept = encoded.ids[: scorer.max_length - len(prefix) - len(lead)]
    cut = len(kept) < len(encoded.ids)
    first = 0 if first_counts and (prefix or scorer.pseudo) else 1
    job = Job(lead + kept, prefix, first, request.view.gradient, scorer.chosen(kept))

    def ends() -> Sequence[int]:
        of_text = encoded.ends()
        return [of_text[place - len(lead)] for place in job.places]

    words = text[: encoded.ends()[len(kept) - 1]] if cut and kept else text
    return job, Planned(request, words, np.array(job.targets, dtype=np.int64), cut, ends)
