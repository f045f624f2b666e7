"""Neighbours of a text by a masked language model (Mattern et al. 2023)."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import AutoModelForMaskedLM, AutoTokenizer

from midistill_tasks.attacks.neighbor import REWRITERS
from midistill_tasks.errors import InputError
from midistill_tasks.views import UnscorableError

DROPOUT = 0.7
"""Of the embedding of the word that is replaced, so that the model sees a part of its meaning."""
CANDIDATES = 20
"""Replacements a position."""


class _Masked(NamedTuple):
    model: Any
    tokenizer: Any


@lru_cache(maxsize=1)
def _load(name: str) -> _Masked:
    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
        model = AutoModelForMaskedLM.from_pretrained(name).eval()
    except (OSError, ValueError) as error:
        raise InputError(
            f"neighbor_model: '{name}' cannot be loaded as a masked language model ({str(error).splitlines()[0]}); "
            "name one such as roberta-base, or its folder"
        ) from None
    if not tokenizer.is_fast:
        raise InputError(f"neighbor_model: '{name}' has no fast tokenizer, which tells where a word stands")
    return _Masked(model.to("cuda" if torch.cuda.is_available() else "cpu"), tokenizer)


@lru_cache(maxsize=100_000)
def neighbours(name: str, text: str, count: int) -> tuple[str, ...]:
    """`count` variants of a text, the likeliest replacements of one token each, by a model of this name.

    The score of a replacement is p(w) / (1 − p(x)), under the text with the embedding of the replaced token x in
    dropout, drawn from the text itself: the same everywhere. White space and all other words stay.

    Raises:
        InputError: the model cannot be loaded.
        UnscorableError: the text is too short to have so many.
    """
    model, tokenizer = _load(name)
    length = min(tokenizer.model_max_length, int(getattr(model.config, "max_position_embeddings", 512)) - 2)
    encoded = tokenizer(text, return_offsets_mapping=True, truncation=True, max_length=length)
    ids, offsets = encoded["input_ids"], encoded["offset_mapping"]
    places = [index for index, (start, end) in enumerate(offsets) if any(map(str.isalnum, text[start:end]))]
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")
    found: list[tuple[float, int, int]] = []
    for begin in range(0, len(places), 64):
        part = places[begin : begin + 64]
        odds, tokens = _replacements(model, ids, part, seed + begin)
        found += [
            (float(odd), place, int(token))
            for place, row, row_tokens in zip(part, odds, tokens, strict=True)
            for odd, token in zip(row, row_tokens, strict=True)
            if _fits(tokenizer, ids[place], int(token))
        ]
    made: dict[str, None] = {}
    for _, place, token in sorted(found, key=lambda one: (-one[0], one[1], one[2])):
        start, end = offsets[place]
        word = tokenizer.convert_tokens_to_string([tokenizer.convert_ids_to_tokens(token)]).strip().removeprefix("##")
        variant = text[:start] + word + text[end:]
        if any(map(str.isalnum, word)) and variant != text:
            made[variant] = None
        if len(made) == count:
            return tuple(made)
    raise UnscorableError(f'it is too short for {count} neighbours: fewer of them with {{"mia": {{"neighbors": …}}}}')


def _replacements(model: Any, ids: list[int], places: list[int], seed: int) -> tuple[Tensor, Tensor]:
    """The best odds p(w) / (1 − p(x)) at each place and their tokens, [places, CANDIDATES]."""
    rows = torch.arange(len(places))
    at = torch.tensor(places)
    generator = torch.Generator().manual_seed(seed)
    with torch.inference_mode():
        embedded = model.get_input_embeddings()(torch.tensor(ids, device=model.device)).repeat(len(places), 1, 1)
        kept = (torch.rand(len(places), embedded.shape[-1], generator=generator) >= DROPOUT).to(embedded)
        embedded[rows, at] *= kept / (1 - DROPOUT)
        p = model(inputs_embeds=embedded).logits[rows, at].float().softmax(-1).cpu()
        own = torch.tensor([ids[place] for place in places])
        odds = p / (1 - p[rows, own].clamp(max=1 - 1e-6))[:, None]
        odds[rows, own] = -1.0
        best: tuple[Tensor, Tensor] = torch.topk(odds, min(CANDIDATES, odds.shape[-1] - 1))
    return best


def _fits(tokenizer: Any, old: int, new: int) -> bool:
    """Whether both begin a word, or neither does, and the new one is no special token."""
    if new in tokenizer.all_special_ids:
        return False
    before, after = tokenizer.convert_ids_to_tokens([old, new])
    return all(before.startswith(mark) == after.startswith(mark) for mark in ("##", "Ġ", "▁"))


REWRITERS.register("masked", neighbours, __name__)
