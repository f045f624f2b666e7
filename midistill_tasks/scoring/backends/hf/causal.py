"""TokenStats through `HFLM` as the harness loaded it."""

from __future__ import annotations

import json
import logging
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import xxhash
from torch import Tensor, nn
from tqdm import tqdm
from transformers import PreTrainedModel

from midistill_tasks.errors import InputError, warn_once
from midistill_tasks.scoring.backends.hf.gradient import gradient_norms
from midistill_tasks.scoring.backends.hf.head import Statistics, from_head
from midistill_tasks.scoring.backends.hf.rope import LengthDependentRope
from midistill_tasks.scoring.backends.hf.ways import Way, after_prefix, concatenated, plain
from midistill_tasks.scoring.protocol import (
    Encoded,
    HarnessScorer,
    Job,
    Result,
    Scorer,
    ScoringStoppedError,
    ends_of,
    scorer,
)

logger = logging.getLogger(__name__)

_FORMAT = "midistill-1"


@scorer("HFLM", gives={"logprob", "greedy", "moments", "gradient"})
class HFScorer(HarnessScorer):
    """Scores jobs with one `HFLM`, in its batch size, dtype and placement.

    `variant` tells apart in the cache what the weights do not: an adapter switched off.
    """

    def __init__(self, lm: Any, variant: str = "") -> None:
        super().__init__(lm)
        self.variant = variant
        peft = hasattr(lm.model, "get_base_model")
        self.model: PreTrainedModel = lm.model.get_base_model() if peft else lm.model
        self.head: nn.Module | None = getattr(self.model, "get_output_embeddings", lambda: None)()
        self.rope = LengthDependentRope(self.model)
        self._short_way: bool | None = None
        self._batch_size: int | None = None
        self._fits = sys.maxsize
        """Texts that are known to be too many at once are more than these."""

    def refuses(self) -> str | None:
        """A model that is not causal, or has no tokenizer."""
        if self.lm.backend != "causal":
            return f"{type(self.lm.model).__name__} is an encoder-decoder model, and these attacks need a causal one"
        if getattr(self.lm, "tokenizer", None) is None:
            return "the model has no tokenizer; name one with --model_args tokenizer=…"
        if self._looks_ahead():
            return (
                f"{type(self.model).__name__} sees what comes after a token when it predicts it, so that its figures "
                "say nothing of a text: --model hf-mlm is for masked language models (is_decoder: true makes a BERT "
                "causal)"
            )
        return None

    def _looks_ahead(self) -> bool:
        """Whether the logits of a token change with what comes after it, by two inputs of one shape: in half precision
        kernels for another shape move them by as much as that would."""
        length, size = min(16, self.lm.max_length), self.model.config.get_text_config().vocab_size
        ids = (torch.arange(length) * 7 % size)[None].to(self.lm.device)
        half = length // 2
        changed = torch.cat([ids[:, :half], (ids[:, half:] + 1) % size], 1)
        with torch.inference_mode(), self._autocast():
            try:
                one, two = self.lm._model_call(ids), self.lm._model_call(changed)
            except Exception as error:  # foreign code: its own error is said where it scores
                logger.debug("not asked whether it looks ahead: %r", error)
                return False
        end = one.shape[1] - (length - half)  # virtual tokens may stand in front
        own, other = one[:, :end].float(), two[:, :end].float()
        dtype = self.lm.mixed_precision_dtype or self.model.dtype
        allowed = max(1e-3, 4 * torch.finfo(dtype).eps)  # of experts that see other company
        finite = torch.isfinite(own) & torch.isfinite(other)
        return bool(finite.any() and (own - other)[finite].abs().max() > allowed * own[finite].abs().max())

    def identity(self) -> str | None:
        """A hash over every weight; None where they are not in memory."""
        key = fingerprint(self.lm)
        alone = ":alone" if self.rope.kinds else ""  # 0.1.0 kept figures that hung on the batch
        return None if key is None else key + self.variant + alone

    def encode(self, text: str) -> Encoded:
        """Characters by the tokenizer's own offsets where it is a fast one."""
        tokenizer = self.lm.tokenizer
        if self.prefix_token is None:  # a tokenizer without BOS and EOS, in which the harness looks for one of them
            ids = tuple(tokenizer(text, verbose=False)["input_ids"])
        else:
            ids = tuple(self.lm.tok_encode(text))
        return Encoded(ids, lambda: ends_of(tokenizer, text, ids))

    @contextmanager
    def reference(self, spec: str) -> Iterator[Scorer]:
        """Also "base", the target without its adapter."""
        if spec != "base":
            with super().reference(spec) as other:
                yield other
        elif not hasattr(self.lm.model, "disable_adapter"):
            raise InputError("reference 'base' is the target without its adapter, and this model has none")
        else:
            with self.lm.model.disable_adapter():
                yield type(self)(self.lm, variant=":base")

    def score(self, jobs: Sequence[Job], done: Callable[[Job, Result], None]) -> None:
        """Scores `jobs` longest first and hands each result to `done` as soon as its batch is through."""
        for job in jobs:
            if job.gradient:
                with self._autocast():
                    done(job, gradient_norms(self.model, job))
        jobs = [job for job in jobs if not job.gradient]
        groups: dict[tuple[Any, ...], list[Job]] = defaultdict(list)
        for job in sorted(jobs, key=lambda job: (len(job.prefix), -len(job.ids), job.ids)):
            groups[job.prefix, job.first, self.rope.scaling(len(job.prefix) + len(job.ids))].append(job)
        self._say_what_rope_costs(jobs)
        try:
            for group in groups.values():
                self._score_group(group, done)
        finally:
            self.rope.forget()  # the harness's own tasks follow

    def _say_what_rope_costs(self, jobs: Sequence[Job]) -> None:
        scalings = Counter(self.rope.scaling(len(job.prefix) + len(job.ids)) for job in jobs)
        if len(scalings) > 1:
            warn_once(
                f"{type(self.model).__name__} scales positions by the length of its input ({self.rope.kinds} rope): "
                f"its {len(jobs)} texts are scored in {len(scalings)} groups of one scaling each, the smallest of "
                f"{min(scalings.values())}, which takes longer than full batches would",
            )

    def _score_group(self, jobs: list[Job], done: Callable[[Job, Result], None]) -> None:
        with torch.inference_mode(), self._autocast():
            way: Way | None = None if jobs[0].prefix else plain
            size, start = self._resolve_batch_size(jobs[0]), 0
            while start < len(jobs):
                batch = jobs[start : start + min(size, self._fits)]
                self.rope.forget()
                try:
                    if way is None and len(jobs) == 1:
                        stats = concatenated(self, batch)  # reading the prefix once is no gain
                    elif way is None:
                        way, stats = after_prefix(self, batch)
                    else:
                        stats = way(self, batch)
                except torch.OutOfMemoryError:
                    self._halve(batch)
                    continue
                for job, result in zip(batch, _per_job(stats, batch), strict=True):
                    done(job, result)
                start += len(batch)

    def _halve(self, batch: list[Job]) -> None:
        """Smaller batches from here on; raises ScoringStoppedError where one text is too much."""
        tokens = len(batch[0].prefix) + len(batch[0].ids)
        if len(batch) == 1:
            raise ScoringStoppedError(
                f"out of memory: a text of {tokens} tokens alone does not fit beside {type(self.model).__name__}: give "
                "--model_args max_length=…, a smaller dtype, or more devices"
            )
        self._fits = len(batch) // 2
        logger.warning("out of memory with %d texts of %d tokens: going on with %d", len(batch), tokens, self._fits)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

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


def _per_job(stats: Statistics, jobs: Iterable[Job]) -> Iterator[Result]:
    columns = [values.cpu().numpy() for values in stats]
    start = 0
    for job in jobs:
        end = start + job.scored
        logprob, mean, std, greedy = (column[start:end].copy() for column in columns)
        yield Result(logprob, greedy=greedy, mean=mean, std=std)
        start = end


def fingerprint(lm: Any) -> str | None:
    """Hash over the configuration and every weight of a harness model; None where weights are not in memory."""
    model = lm.model
    config = model.config.to_dict() if hasattr(model.config, "to_dict") else dict(model.config)
    adapters = {name: str(value) for name, value in getattr(model, "peft_config", {}).items()}
    for transient in ("_name_or_path", "transformers_version"):
        config.pop(transient, None)
    active = str(getattr(model, "active_adapters", None)) if adapters else ""
    identity = [_FORMAT, config, adapters, active, str(lm.mixed_precision_dtype)]
    digest = xxhash.xxh3_128(json.dumps(identity, default=str, sort_keys=True).encode())
    tensors = model.state_dict()
    for name, tensor in tqdm(tensors.items(), desc="Hashing weights for the cache", disable=lm.rank != 0, leave=False):
        if not hasattr(tensor, "dtype"):
            digest.update(f"{name}={tensor!r}".encode())
            continue
        if tensor.device.type == "meta":
            logger.warning("--use_cache: weights are offloaded to disk, so TokenStats of this model are not cached")
            return None
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}".encode())
        digest.update(_bytes(tensor))
    return digest.hexdigest()


def _bytes(tensor: Any) -> Any:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
