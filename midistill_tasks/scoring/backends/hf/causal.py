"""TokenStats through `HFLM` as the harness loaded it."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.cache_utils import DynamicLayer

from midistill_tasks.scoring.backends.hf.head import Statistics, from_head, from_logits
from midistill_tasks.scoring.backends.hf.prefix import KeysValues, UnsupportedAttentionError, shared_prefix
from midistill_tasks.views import TokenStats, Unscored

logger = logging.getLogger(__name__)

NOT_FINITE = "the model gave NaN or +inf logits: load it in float32 (--model_args dtype=float32)"


@dataclass(frozen=True)
class Job:
    """Tokens to score: ``ids[first:]``, each under the model's distribution given all tokens before it and `prefix`.

    `first` is 1 where the first token is only read, 0 where `prefix` predicts it.
    """

    ids: tuple[int, ...]
    prefix: tuple[int, ...] = ()
    first: int = 1

    @property
    def scored(self) -> int:
        return max(0, len(self.ids) - self.first)


Result = tuple[np.ndarray[Any, Any], ...]
"""logprob, mean, std, greedy of a job's scored tokens."""


class HFScorer:
    """Scores jobs with one `HFLM`, in its batch size, dtype and placement."""

    def __init__(self, lm: Any) -> None:
        self.lm = lm
        peft = hasattr(lm.model, "get_base_model")
        self.model: PreTrainedModel = lm.model.get_base_model() if peft else lm.model
        self.head: nn.Module | None = getattr(self.model, "get_output_embeddings", lambda: None)()
        self._short_way: bool | None = None
        self._batch_size: int | None = None

    # ------------------------------------------------------------------ tokens to texts

    def covered(self, text: str, ids: tuple[int, ...]) -> int:
        """How many leading characters of `text` its first tokens `ids` cover."""
        tokenizer = self.lm.tokenizer
        for special in (True, False) if getattr(tokenizer, "is_fast", False) else ():
            encoded = tokenizer(text, add_special_tokens=special, return_offsets_mapping=True)
            if tuple(encoded["input_ids"][: len(ids)]) == ids:
                return max((end for _, end in encoded["offset_mapping"][: len(ids)]), default=0)
        return len(tokenizer.decode(ids, skip_special_tokens=True))

    # ------------------------------------------------------------------ jobs to statistics

    def score(self, jobs: Sequence[Job], done: Callable[[Job, Result], None]) -> None:
        """Scores `jobs` longest first and hands each result to `done` as soon as its batch is through."""
        groups: dict[tuple[tuple[int, ...], int], list[Job]] = defaultdict(list)
        for job in sorted(jobs, key=lambda job: (len(job.prefix), -len(job.ids), job.ids)):
            groups[job.prefix, job.first].append(job)
        for group in groups.values():
            self._score_group(group, done)

    def _score_group(self, jobs: list[Job], done: Callable[[Job, Result], None]) -> None:
        with torch.inference_mode(), self._autocast():
            way: Way | None = None if jobs[0].prefix else _plain
            for batch in self._batches(jobs):
                if way is None:
                    way, stats = _after(self, batch)
                else:
                    stats = way(self, batch)
                for job, result in zip(batch, _per_job(stats, batch), strict=True):
                    done(job, result)

    def _batches(self, jobs: list[Job]) -> Iterator[list[Job]]:
        size = self._resolve_batch_size(jobs[0])
        for start in range(0, len(jobs), size):
            yield jobs[start : start + size]

    def _resolve_batch_size(self, longest: Job) -> int:
        if self.lm.batch_size != "auto":
            return int(self.lm.batch_size)
        if self._batch_size is None or longest.prefix:
            probe: tuple[None, list[int], list[int]] = (None, list(longest.prefix + longest.ids), [])
            # Alone: a rank that finds all its texts in the cache never comes here, and the others would wait for it.
            ranks, self.lm._world_size = self.lm._world_size, 1
            try:
                self._batch_size = int(self.lm._detect_batch_size(requests=[probe], pos=0))
            finally:
                self.lm._world_size = ranks
            self.lm.batch_sizes.setdefault("mia_token_stats", self._batch_size)
        return self._batch_size

    @contextmanager
    def _autocast(self) -> Iterator[None]:
        dtype = self.lm.mixed_precision_dtype
        with torch.autocast(self.lm.device.type, dtype=dtype, enabled=dtype is not None):
            yield

    def hidden(self, ids: Tensor, **kwargs: Any) -> Any:
        """The base model's output for right-padded ids [B, T]: causal attention never sees padding to its right."""
        return self.model.base_model(input_ids=ids, use_cache=kwargs.pop("use_cache", False), **kwargs)

    def pad(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """Right-padded int64 [B, T] on the model's device."""
        width = max(len(row) for row in rows)
        padded = torch.zeros((len(rows), width), dtype=torch.long)
        for index, row in enumerate(rows):
            padded[index, : len(row)] = torch.tensor(row)
        return padded.to(self.lm.device)

    def statistics(self, hidden: Tensor, targets: Tensor) -> Statistics:
        """Through the head in blocks; `hidden` [N, H], `targets` [N]."""
        assert self.head is not None  # noqa: S101  the short way holds
        weight = getattr(self.head, "weight", None)
        if weight is not None and weight.device.type != "meta":
            hidden = hidden.to(weight.device)
        return from_head(hidden, self.head, targets.to(hidden.device))

    def short_way_holds(self, ids: Tensor) -> bool:
        """Whether hidden states × head are the model's own logits (not soft-capped, scaled, …); checked once."""
        if self._short_way is None:
            self._short_way = self._compare_ways(ids[:1, :16])
            if not self._short_way:
                logger.info(
                    "%s changes its logits after the head: scored from its own logits", type(self.model).__name__
                )
        return self._short_way

    def _compare_ways(self, ids: Tensor) -> bool:
        if self.head is None:
            return False
        try:
            short = self.head(self.hidden(ids).last_hidden_state)
        except Exception as error:  # foreign code: the base model has another signature or output
            logger.debug("no hidden states to be had: %r", error)
            return False
        own = self.lm._model_call(ids)
        if short.shape != own.shape:
            return False
        own, short = own.float(), short.float().to(own.device)
        finite = torch.isfinite(own) & torch.isfinite(short)
        if not bool((torch.isfinite(own) == torch.isfinite(short)).all() and finite.any()):
            return False
        # The same product of the same numbers: more than the last bit, in bfloat16 too, is something after the head.
        allowed = torch.finfo(self.model.dtype).eps * own[finite].abs().max()
        return bool((own - short)[finite].abs().max() <= allowed)


# ---------------------------------------------------------------------- ways of a forward

Way = Callable[[HFScorer, list[Job]], Statistics]


def _positions(jobs: Sequence[Job], ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rows and columns of the hidden states that predict the scored tokens of padded `ids`, and those tokens."""
    rows = [row for row, job in enumerate(jobs) for _ in range(1, len(job.ids))]
    columns = [column for job in jobs for column in range(1, len(job.ids))]
    row, column = torch.tensor(rows, device=ids.device), torch.tensor(columns, device=ids.device)
    return row, column - 1, ids[row, column]


def _plain(scorer: HFScorer, jobs: list[Job]) -> Statistics:
    ids = scorer.pad([job.ids for job in jobs])
    row, column, targets = _positions(jobs, ids)
    if scorer.short_way_holds(ids):
        return scorer.statistics(scorer.hidden(ids).last_hidden_state[row, column], targets)
    logits = scorer.lm._model_call(ids)[:, -ids.shape[1] :]  # prompt tuning puts its virtual tokens in front
    return from_logits(logits[row, column], targets.to(logits.device))


def _concatenated(scorer: HFScorer, jobs: list[Job]) -> Statistics:
    """Every row reads the whole prefix again: exact for any model, and the yardstick for the faster ways."""
    whole = [Job(job.prefix + job.ids) for job in jobs]
    start = [len(job.prefix) - (1 - job.first) for job in jobs]
    stats = _plain(scorer, whole)
    keep = torch.cat([torch.arange(len(job.ids) - 1) >= skip for job, skip in zip(whole, start, strict=True)])
    return Statistics(*(values[keep.to(values.device)] for values in stats))


@dataclass
class _Prefix:
    """A prefix that was read once: its length, key-value cache and last hidden state [1, H]."""

    length: int
    cache: Any
    last_hidden: Tensor

    def statistics(self, scorer: HFScorer, jobs: list[Job], ids: Tensor, hidden: Tensor) -> Statistics:
        row, column, targets = _positions(jobs, ids)
        states = hidden[row, column]
        if not jobs[0].first:  # x_0 follows the prefix's last token: it leads each job's tokens
            lead = torch.cumsum(torch.tensor([0] + [len(job.ids) - 1 for job in jobs[:-1]]), 0)
            states = _interleave(states, self.last_hidden.expand(len(jobs), -1), lead)
            targets = _interleave(targets, ids[:, 0], lead)
        return scorer.statistics(states, targets)

    def layers(self) -> KeysValues:
        """Keys and values by layer."""
        return [(layer.keys, layer.values) for layer in self.cache.layers]


def _interleave(values: Tensor, first: Tensor, lead: Tensor) -> Tensor:
    """Puts first[i] in front of the i-th run of `values`, whose runs begin at `lead`."""
    parts = []
    bounds = [*lead.tolist(), len(values)]
    for index in range(len(lead)):
        parts += [first[index : index + 1], values[bounds[index] : bounds[index + 1]]]
    return torch.cat(parts)


class _Shared(_Prefix):
    """All rows attend to one copy of the prefix (`prefix.py`)."""

    def __call__(self, scorer: HFScorer, jobs: list[Job]) -> Statistics:
        ids = scorer.pad([job.ids for job in jobs])
        positions = torch.arange(self.length, self.length + ids.shape[1], device=ids.device)[None]
        with shared_prefix(scorer.model, self.layers()):
            hidden = scorer.hidden(ids, position_ids=positions).last_hidden_state
        return self.statistics(scorer, jobs, ids, hidden)


class _Expanded(_Prefix):
    """The prefix's key-value cache, repeated for every row of the batch."""

    def __call__(self, scorer: HFScorer, jobs: list[Job]) -> Statistics:
        import copy

        ids = scorer.pad([job.ids for job in jobs])
        cache = copy.deepcopy(self.cache)
        cache.batch_repeat_interleave(len(jobs))
        hidden = scorer.hidden(ids, past_key_values=cache, use_cache=True).last_hidden_state
        return self.statistics(scorer, jobs, ids, hidden)


def _after(scorer: HFScorer, jobs: list[Job]) -> tuple[Way, Statistics]:
    """The fastest way of scoring after a prefix, and what it gives for these jobs, the first batch.

    A way is taken if it agrees, in that company, with the plain way on the longest text, which comes first.
    """
    longest, prefix = jobs[0], jobs[0].prefix
    allowed = 2e-4 if scorer.model.dtype == torch.float32 else 2e-2
    try:
        read, truth = _read(scorer, longest)
    except Exception as error:  # recurrent models and foreign code keep their state in other ways
        logger.debug("no key-value cache to share: %r", error)
        return _concatenated, _concatenated(scorer, jobs)
    for kind in (_Shared, _Expanded):
        way = kind(len(prefix), *read)
        try:
            stats = way(scorer, jobs)
            if bool((stats.logprob[: longest.scored] - truth).abs().mean() <= allowed):
                return way, stats
        except Exception as error:  # private ops: any failure means the plainer way
            logger.debug("%s is not possible here: %r", kind.__name__, error)
    return _concatenated, _concatenated(scorer, jobs)


def _read(scorer: HFScorer, job: Job) -> tuple[tuple[Any, Tensor], Tensor]:
    """The key-value cache and last hidden state of a job's prefix, and logprobs of its tokens, by one plain forward."""
    length = len(job.prefix)
    whole = scorer.pad([job.prefix + job.ids])
    if not scorer.short_way_holds(whole):
        raise UnsupportedAttentionError("the model changes its logits after the head")
    output = scorer.hidden(whole, use_cache=True)
    states = output.last_hidden_state[0, length - 1 + job.first : -1]
    truth = scorer.statistics(states, whole[0, length + job.first :]).logprob
    cache = _cut(output.past_key_values, length)
    if cache is None:
        cache = scorer.hidden(whole[:, :length], use_cache=True).past_key_values
    return (cache, output.last_hidden_state[:, length - 1]), truth


def _cut(cache: Any, length: int) -> Any | None:
    """The cache of the first `length` tokens, or None where a layer does not keep all tokens (sliding windows)."""
    if any(type(layer) is not DynamicLayer for layer in cache.layers):
        return None
    for layer in cache.layers:
        layer.keys, layer.values = layer.keys[:, :, :length], layer.values[:, :, :length]
    return cache


def _per_job(stats: Statistics, jobs: Iterable[Job]) -> Iterator[Result]:
    columns = [values.cpu().numpy() for values in stats]
    start = 0
    for job in jobs:
        end = start + job.scored
        yield tuple(column[start:end].copy() for column in columns)
        start = end


def to_stats(result: Result, n_chars: int, truncated: bool) -> TokenStats | Unscored:
    """Wraps a job's arrays; NaN figures become an `Unscored` that says how to get figures."""
    logprob, mean, std, greedy = result
    if np.isnan(logprob).any():
        return Unscored(NOT_FINITE)
    return TokenStats(logprob, mean, std, greedy, n_chars, truncated)
