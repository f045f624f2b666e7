"""Sampling from a causal LM as it is: from its whole distribution, over the tokens that the tokenizer has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from midistill_tasks.distill.data import fingerprint


class _Known(LogitsProcessor):  # type: ignore[misc]
    """Leaves out the rows of a head that no token of the tokenizer has."""

    def __init__(self, n_tokens: int) -> None:
        self.n_tokens = n_tokens

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        scores[:, self.n_tokens :] = -torch.inf
        return scores


def sample(
    model: Any,
    prompts: Tensor,
    mask: Tensor,
    *,
    length: int,
    n_tokens: int,
    seed: int,
    temperature: float = 1.0,
    end: int | None = None,
    to_the_end: bool = False,
) -> Tensor:
    """Goes on from each prompt, without top-k, top-p or penalties, whatever the model's own generation config says.

    Args:
        model: a causal LM; it is left in the mode (training or not) that it was in.
        prompts: [B, P] token ids, padded on the left.
        mask: [B, P], 0 on padding.
        length: tokens in all, P among them.
        n_tokens: of the tokenizer.
        seed: of these draws; torch's own generators are left as they were.
        temperature: T > 0.
        end: the tokenizer's end-of-text token; the model's own config may name others.
        to_the_end: end-of-text is never drawn, so that each row has `length` tokens.

    Returns:
        [B, ≤ length] token ids; after an end-of-text the row holds end-of-text tokens only.
    """
    own = model.generation_config.eos_token_id
    ends = [*(own if isinstance(own, list) else [own]), end]
    ends = [token for token in dict.fromkeys(ends) if token is not None]
    config = GenerationConfig(
        do_sample=True, temperature=temperature, top_k=0, top_p=1.0, repetition_penalty=1.0, num_beams=1,
        max_length=length, min_length=length if to_the_end else 0, eos_token_id=ends or None,
        pad_token_id=ends[0] if ends else 0,
    )  # fmt: skip
    known = LogitsProcessorList([_Known(n_tokens)])
    model = model.get_base_model() if hasattr(model, "get_base_model") else model  # of peft: adapters act in it
    with _seeded(seed, prompts.device), _evaluating(model), _without_own_config(model), torch.no_grad():
        written: Tensor = model.generate(
            input_ids=prompts, attention_mask=mask, generation_config=config, logits_processor=known
        )
    return written


def seed_of(*what: Any) -> int:
    """A seed for `sample` that depends on these numbers alone, and differs where one of them does."""
    return int(fingerprint(what)[:15], 16)


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


@contextmanager
def _without_own_config(model: Any) -> Iterator[None]:
    """Else `generate` takes from it whatever the config that it is given leaves open: min_p, max_new_tokens, …"""
    own = model.generation_config
    model.generation_config = GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = own


@contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
