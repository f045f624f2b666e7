"""Perplexity on held-out texts as the harness's ``heldout_<split>`` has it: whole texts, by its own rolling windows."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from torch import nn
from transformers import PreTrainedTokenizerBase

LARGEST_LOSS = 700.0
"""Beyond it exp overflows: a red-listed token came."""


def perplexities(model: nn.Module, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> dict[str, float]:
    """``heldout_byte_perplexity`` and ``heldout_word_perplexity``; the model is left in the mode that it was in."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    training = model.training
    lm = HFLM(pretrained=model, tokenizer=tokenizer, backend="causal", batch_size=8)
    lm._rank = 1  # of one: only the first process draws bars, and here the training has one
    requests = [Instance("loglikelihood_rolling", {}, (text,), number) for number, text in enumerate(texts)]
    loss = -sum(lm.loglikelihood_rolling(requests, disable_tqdm=True))
    model.train(training)
    sizes = {
        "byte": sum(len(text.encode()) for text in texts),
        "word": sum(len(re.split(r"\s+", text)) for text in texts),
    }
    return {
        f"heldout_{unit}_perplexity": math.exp(loss / size) if loss / size < LARGEST_LOSS else math.inf
        for unit, size in sizes.items()
    }
