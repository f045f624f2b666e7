"""Ways of a forward: plain, and after a prefix that is shared, expanded or read again for every row."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicLayer

from midistill_tasks.scoring.backends.hf.head import Statistics, from_logits
from midistill_tasks.scoring.backends.hf.prefix import KeysValues, UnsupportedAttentionError, shared_prefix
from midistill_tasks.scoring.protocol import Job

if TYPE_CHECKING:
    from midistill_tasks.scoring.backends.hf.causal import HFScorer

logger = logging.getLogger(__name__)

_PROBE = 16
"""Tokens of a text that tell most ways that do not work for a model."""

Way = Callable[["HFScorer", list[Job]], Statistics]


def _positions(jobs: Sequence[Job], ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rows and columns of the hidden states that predict the scored tokens of padded `ids`, and those tokens."""
    rows = [row for row, job in enumerate(jobs) for _ in range(1, len(job.ids))]
    columns = [column for job in jobs for column in range(1, len(job.ids))]
    row, column = (torch.tensor(each, dtype=torch.long, device=ids.device) for each in (rows, columns))
    return row, column - 1, ids[row, column]


def plain(scorer: HFScorer, jobs: list[Job]) -> Statistics:
    ids = scorer.pad([job.ids for job in jobs])
    row, column, targets = _positions(jobs, ids)
    if scorer.short_way_holds(ids):
        return scorer.statistics(scorer.hidden(ids).last_hidden_state[row, column], targets)
    logits = scorer.lm._model_call(ids)[:, -ids.shape[1] :]  # prompt tuning puts its virtual tokens in front
    return from_logits(logits[row, column], targets.to(logits.device))


def concatenated(scorer: HFScorer, jobs: list[Job]) -> Statistics:
    """Every row reads the whole prefix again: exact for any model, and the yardstick for the faster ways."""
    whole = [Job(job.prefix + job.ids) for job in jobs]
    start = [len(job.prefix) - (1 - job.first) for job in jobs]
    stats = plain(scorer, whole)
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
        ids = scorer.pad([job.ids for job in jobs])
        cache = copy.deepcopy(self.cache)
        cache.batch_repeat_interleave(len(jobs))
        hidden = scorer.hidden(ids, past_key_values=cache, use_cache=True).last_hidden_state
        return self.statistics(scorer, jobs, ids, hidden)


def after_prefix(scorer: HFScorer, jobs: list[Job]) -> tuple[Way, Statistics]:
    """The fastest way of scoring after a prefix, and what it gives for these jobs, the first batch.

    A way is taken if it agrees, in that company, with the plain way on the longest text, which comes first: on each of
    its tokens, in half precision on their mean. Most that do not show it on that text's first tokens alone, and do not
    cost a batch then.
    """
    longest, prefix = jobs[0], jobs[0].prefix
    beginning = longest if scorer.rope.kinds else replace(longest, ids=longest.ids[:_PROBE])
    exact = scorer.model.dtype == torch.float32
    try:
        read, truth = _read(scorer, longest)
    except torch.OutOfMemoryError:  # says nothing of the way
        raise
    except Exception as error:  # recurrent models and foreign code keep their state in other ways
        logger.debug("no key-value cache to share: %r", error)
        return concatenated, concatenated(scorer, jobs)
    for kind in (_Shared, _Expanded):
        way = kind(len(prefix), *read)
        try:
            for company in ([beginning], jobs):
                stats, scored = way(scorer, company), company[0].scored
                off = (stats.logprob[:scored] - truth[:scored]).abs()
                if not bool(off.max() <= 2e-4 if exact else off.mean() <= 2e-2):
                    break
            else:
                return way, stats
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # private ops: any failure means the plainer way
            logger.debug("%s is not possible here: %r", kind.__name__, error)
    return concatenated, concatenated(scorer, jobs)


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
    if cache is None and scorer.rope.scaling(length) != scorer.rope.scaling(whole.shape[1]):
        raise UnsupportedAttentionError("alone, the prefix is scaled otherwise than before a text")
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
