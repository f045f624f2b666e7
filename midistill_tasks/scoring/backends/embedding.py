"""Vectors of words by an encoder, for attacks that compare what a model says with what a text says."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from transformers import AutoModel, AutoTokenizer

from midistill_tasks.attacks.petal import EMBEDDERS
from midistill_tasks.errors import InputError


@lru_cache(maxsize=1)
def _load(name: str) -> tuple[Any, Any]:
    try:
        tokenizer, model = AutoTokenizer.from_pretrained(name), AutoModel.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise InputError(
            f"embedding_model: '{name}' cannot be loaded ({str(error).splitlines()[0]}); "
            "name an encoder such as sentence-transformers/all-MiniLM-L6-v2, or its folder"
        ) from None
    return tokenizer, model.eval()


@lru_cache(maxsize=100_000)
def embedded(name: str, word: str) -> tuple[float, ...]:
    """The mean of a word's last hidden states over its tokens, of length 1.

    Raises:
        InputError: the model cannot be loaded.
    """
    tokenizer, model = _load(name)
    inputs = tokenizer(word, return_tensors="pt")
    with torch.inference_mode():
        states = model(**inputs).last_hidden_state[0].float().mean(0)
    return tuple((states / states.norm().clamp(min=1e-12)).tolist())


EMBEDDERS.register("mean", embedded, __name__)
