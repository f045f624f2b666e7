"""``--model vllm``: the prompt's log-probabilities, and their moments through an extension of the workers."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from midistill_tasks.errors import warn_once
from midistill_tasks.scoring.backends.vllm_worker import COLUMNS
from midistill_tasks.scoring.models import VLLM_EXTENSION
from midistill_tasks.scoring.protocol import Encoded, HarnessScorer, Job, Result, ScoringStoppedError, ends_of, scorer
from midistill_tasks.views import FloatArray, Statistic

logger = logging.getLogger(__name__)

_CHUNK = 256
"""Requests that are handed over at once: vLLM batches them by itself, and a killed run keeps what came before."""
_TOLERANCE = 1e-3


@scorer("VLLM", gives={"logprob", "greedy", "moments"})
class VLLMScorer(HarnessScorer):
    """Scores jobs with one `VLLM`; prompts go there as ids, and what comes back is read by position, never by text."""

    @property
    def max_length(self) -> int:
        """One less than the model's: vLLM generates a token after each prompt."""
        return int(self.lm.max_length) - 1

    @property
    def gives(self) -> frozenset[Statistic]:
        """Moments where the workers have our extension, and it does on this version of vLLM what it should."""
        known: frozenset[Statistic] = frozenset({"logprob", "greedy"})
        return known | {"moments"} if self._has_moments else known

    def refuses(self) -> str | None:
        """What would give wrong figures."""
        if self.lm.lora_request is not None:
            return "vLLM has given wrong log-probabilities of prompts under LoRA: merge the adapter into the model"
        if self._engine is not None:
            mode = str(getattr(self._engine.model_config, "logprobs_mode", "raw_logprobs"))
            if "raw_logprobs" not in mode:
                return f"logprobs_mode={mode} is not what the model predicts: leave it out of --model_args"
        return None

    def identity(self) -> str | None:
        """A hash over every weight, as the workers hold them; None where they lack our extension."""
        if self._engine is None or not self._extended:
            return None
        config = self._engine.model_config
        parts = [config.hf_config.to_dict(), str(config.dtype), str(config.quantization)]
        for transient in ("_name_or_path", "transformers_version"):
            parts[0].pop(transient, None)
        parts += self.lm.model.collective_rpc("midistill_fingerprint")
        return "vllm:" + hashlib.sha256(json.dumps(parts, default=str, sort_keys=True).encode()).hexdigest()

    def encode(self, text: str) -> Encoded:
        """By the LM's own ``tok_encode``."""
        ids = tuple(self.lm.tok_encode(text))
        return Encoded(ids, lambda: ends_of(self.lm.tokenizer, text, ids))

    def score(self, jobs: Sequence[Job], done: Callable[[Job, Result], None]) -> None:
        """All prompts by vLLM's own scheduler, longest first.

        Raises:
            ScoringStoppedError: an answer is not about its prompt.
        """
        ordered = sorted(jobs, key=lambda job: -len(job.prefix) - len(job.ids))
        for start in range(0, len(ordered), _CHUNK):
            chunk = ordered[start : start + _CHUNK]
            tables = self._tables([job.prefix + job.ids for job in chunk], self._has_moments)
            for job, table in zip(chunk, tables, strict=True):
                scored = table[len(job.prefix) + job.first :]
                logprob, best, *more = (np.ascontiguousarray(column) for column in scored.T)
                mean, std = more if more else (None, None)
                done(job, Result(logprob, greedy=logprob >= best, mean=mean, std=std))

    def _tables(self, rows: Sequence[Sequence[int]], with_moments: bool) -> list[FloatArray]:
        """Of each prompt [T, 2] or, with moments, [T, 4]: its tokens' and the likeliest log-probability, μ, σ; the
        first row is NaN."""
        from vllm import SamplingParams

        columns = COLUMNS if with_moments else 1
        asked = SamplingParams(
            temperature=0, max_tokens=1, prompt_logprobs=columns, flat_logprobs=True, detokenize=False,
            skip_reading_prefix_cache=True,  # what another request left there has changed figures
        )  # fmt: skip
        if with_moments:
            self.lm.model.collective_rpc("midistill_moments", args=(True,))
        try:
            outputs = self.lm._model_generate([list(row) for row in rows], generate=True, sampling_params=asked)
        finally:
            if with_moments:
                self.lm.model.collective_rpc("midistill_moments", args=(False,))
        return [_table(ids, output, columns + 1) for ids, output in zip(rows, outputs, strict=True)]

    @cached_property
    def _engine(self) -> Any:
        """None with data parallelism, where each replica has its own."""
        return getattr(getattr(self.lm, "model", None), "llm_engine", None)

    @cached_property
    def _extended(self) -> bool:
        return bool(self.lm.model_args.get("worker_extension_cls") == VLLM_EXTENSION)

    @cached_property
    def _has_moments(self) -> bool:
        """Whether the extension's figures of one prompt are those of the plain formula; said where they are not."""
        if self._engine is None or not self._extended:
            return False
        try:
            right = self._moments_hold()
        except Exception as error:  # another release of vLLM: the other statistics must still be given
            logger.debug("no moments to be had: %r", error)
            right = False
        if not right:
            from importlib.metadata import version

            warn_once(
                f"vLLM {version('vllm')}: no exact moments to be had, so that attacks that need them have no figure"
            )
        return right

    def _moments_hold(self) -> bool:
        """In the workers by the plain formula, and on a prompt by what arrives here and its bounds."""
        self.lm.model.collective_rpc("midistill_moments", args=(True,))
        try:
            errors = self.lm.model.collective_rpc("midistill_error")
        finally:
            self.lm.model.collective_rpc("midistill_moments", args=(False,))
        size = int(self._engine.model_config.get_vocab_size())
        ids = [(7 * n + 3) % size for n in range(12)]
        (plain,), (ours,) = self._tables([ids], False), self._tables([ids], True)
        _, best, mean, std = ours[1:].T
        return bool(
            max(errors) <= _TOLERANCE
            and bool(np.abs(ours[1:, :2] - plain[1:]).max() <= _TOLERANCE)
            and bool((mean <= best + _TOLERANCE).all() and (mean >= -np.log(size) - _TOLERANCE).all())
            and bool((std > 0).all() and np.isfinite(std).all())
        )


def _table(ids: Sequence[int], output: Any, width: int) -> FloatArray:
    """Raises ScoringStoppedError where the answer is not of these tokens, one by one."""
    flat = output.prompt_logprobs
    if list(output.prompt_token_ids) != list(ids) or flat is None or len(flat) != len(ids):
        raise ScoringStoppedError(
            f"vLLM answered about another prompt than the one of {len(ids)} tokens that it was given"
        )
    table = np.full((len(ids), width), np.nan, dtype=np.float32)
    for place in range(1, len(ids)):
        start, end = flat.start_indices[place], flat.end_indices[place]
        if end - start != width or flat.token_ids[start] != ids[place]:
            raise ScoringStoppedError(f"vLLM's answer at token {place} of {len(ids)} is not about that token")
        table[place] = flat.logprobs[start:end]
    return table
