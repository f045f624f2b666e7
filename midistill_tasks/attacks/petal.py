"""PETAL: how near the model's likeliest next words are to the text's own, where nothing but words is given."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from midistill_tasks.attacks.base import Views, attack
from midistill_tasks.options import option
from midistill_tasks.registry import Registry
from midistill_tasks.views import Generated, Prompt, View, bound

Embedder = Callable[[str, str], tuple[float, ...]]
"""Name of a model, word → a vector of length 1."""
EMBEDDERS: Registry[Embedder] = Registry(
    "embedder", "midistill.embedders", {"mean": "midistill_tasks.scoring.backends.embedding"}
)

LENGTH = 8
"""Tokens that are generated for one word, at least."""
_GREEDY: Mapping[str, Any] = {"until": [], "max_gen_toks": LENGTH, "do_sample": False, "temperature": 0.0}


def next_word(number: int, count: int, model: str | None, text: str) -> Prompt:
    """The text up to before the word at (number + ½)/count of those that have one before them; greedy."""
    if model is not None:
        EMBEDDERS["mean"](model, text[:1])  # a model that cannot be loaded is said before anything is generated
    words = list(re.finditer(r"\S+", text))
    if len(words) < 2:
        return Prompt(text, "", 1, _GREEDY)
    place = 1 + (2 * number + 1) * (len(words) - 1) // (2 * count)
    return Prompt(text[: words[place - 1].end()], words[place].group(), 1, _GREEDY)


def _views(options: Mapping[str, Any]) -> Views:
    count, model = options["guesses"], options["embedding_model"]
    return tuple(View(f"word_{n + 1}_of_{count}", prompt=bound(next_word, n, count, model)) for n in range(count))


@attack(
    "petal",
    "likeness of the words that the model says next to those of the text",
    source="He et al. 2025",
    needs=(),
    views=_views,
    by_default=False,
)
def petal(
    *guessed: Generated,
    guesses: int = option(16, "places in a text, evenly spread, at which the model says the next word", ge=1, le=256),
    embedding_model: str | None = option(
        None, "an encoder whose vectors say how alike two words are; without one they are alike where they are equal"
    ),
) -> float:
    """Mean over places of the likeness of the model's likeliest next word to the text's own, greedily decoded (He et
    al. 2025, "Towards label-only membership inference attack against pre-trained large language models", PETAL).

    A text of one word has NaN.

    Against the paper: it asks at every token, and maps likeness to log-probability by a line that it fits to each
    text's tokens under a surrogate model. Here words are compared, case and punctuation aside, since an API shows no
    tokens, and the likeness itself is the score, the same for all texts.
    """
    if not guessed[0].rest:
        return float("nan")
    pairs = [(_plain(one.rest), _plain((one.samples[0].split() or [""])[0])) for one in guessed]
    return sum(_likeness(embedding_model, *pair) for pair in pairs) / len(pairs)


def _plain(word: str) -> str:
    return re.sub(r"\W+", "", word).lower() or word


def _likeness(model: str | None, own: str, said: str) -> float:
    """1 for equal words; else the cosine of their vectors, or 0 without a model."""
    if own == said or model is None or not said:
        return float(own == said)
    embed = EMBEDDERS["mean"]
    return sum(a * b for a, b in zip(embed(model, own), embed(model, said), strict=True))
