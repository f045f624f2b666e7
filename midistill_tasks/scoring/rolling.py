"""Log-likelihoods of whole texts as the harness takes them, but kept in our cache: its own knows no model apart."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from midistill_tasks.scoring.cache import open_cache
from midistill_tasks.scoring.protocol import Scorer, scorer_of

logger = logging.getLogger(__name__)

ROLLING = "mia_rolling"
"""The harness request type of the held-out tasks; `answer_requests` (harness/hooks) gives every LM the method."""


def rolling(lm: Any, requests: Sequence[Any]) -> list[float]:
    """What ``lm.loglikelihood_rolling`` answers; with ``--use_cache`` each text's answer once a model.

    Args:
        lm: an LM of the harness, without its cache around it.
        requests: harness instances whose ``args`` are a text.
    """
    scorer = scorer_of(lm)
    cache = open_cache(scorer) if scorer else None
    if scorer is None or cache is None:
        return _asked(lm, requests)
    with contextlib.closing(cache):
        keys = [_key(scorer, cache.model, request.args[0]) for request in requests]
        known = {key: data for key in dict.fromkeys(keys) if (data := cache.read(key)) is not None}
        missing = {key: request for key, request in zip(keys, requests, strict=True) if key not in known}
        cache.say_what_was_found(len(known), len(known) + len(missing), "texts")
        if _any_rank(lm, bool(missing)):
            asked = missing or {keys[0]: requests[0]}  # a rank that needs none must take part all the same
            for key, answer in zip(asked, _asked(lm, list(asked.values())), strict=True):
                known[key] = struct.pack("<d", answer)
                cache.write(key, known[key])
    return [struct.unpack("<d", known[key])[0] for key in keys]


def _key(scorer: Scorer, model: str, text: str) -> bytes:
    """Of all that the answer depends on: the model, how it is read in windows, and the tokens."""
    ids = np.asarray(scorer.encode(text).ids, dtype="<i8").tobytes()
    return hashlib.sha256(f"rolling:{model}:{scorer.max_length}:{scorer.prefix_token}:".encode() + ids).digest()


def _asked(lm: Any, requests: Sequence[Any]) -> list[float]:
    """The model's own answers, which must not land in the harness's cache, either."""
    from lm_eval.api.model import CacheHook

    hook, lm.cache_hook = lm.cache_hook, CacheHook(None)
    try:
        return list(lm.loglikelihood_rolling(requests))
    finally:
        lm.cache_hook = hook


def _any_rank(lm: Any, needed: bool) -> bool:
    """Whether it is so on some rank; the model's ranks exchange what they have to do and wait for each other."""
    if lm.world_size == 1:
        return needed
    import torch

    return bool(lm.all_gather(torch.tensor(int(needed), device=lm.device)).max())
