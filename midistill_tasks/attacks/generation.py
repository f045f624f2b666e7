"""Attacks that need no log-probability: the model continues the beginning of a text."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from typing import Any

from midistill_tasks.attacks.base import Views, attack
from midistill_tasks.options import option
from midistill_tasks.views import Generated, Prompt, View, bound

STEP = 32
"""Lengths to generate are rounded up to it, so that texts of much the same length share a batch."""


def halves(text: str) -> tuple[str, str]:
    """The first half of a text's words, and the rest with the white space before it."""
    words = list(re.finditer(r"\S+", text))
    end = words[len(words) // 2 - 1].end() if len(words) > 1 else len(text)
    return text[:end], text[end:]


def continue_half(samples: int, sampled: bool, text: str) -> Prompt:
    """The first half of the words; two tokens are allowed for each word of the rest, and eight more; where the
    rest has more under the model's own tokenizer, that many (`scoring.generation`)."""
    context, rest = halves(text)
    length = 2 * len(rest.split()) + 8
    kwargs = {"until": [], "max_gen_toks": -(-length // STEP) * STEP, "do_sample": sampled}
    return Prompt(context, rest, samples, kwargs | ({"temperature": 1.0} if sampled else {"temperature": 0.0}))


def _samples(options: Mapping[str, Any]) -> Views:
    return (View(f"continued_{options['samples']}", prompt=bound(continue_half, options["samples"], True)),)


@attack(
    "samia",
    "SaMIA: words of the second half among those that the model goes on with",
    source="Kaneko et al. 2024",
    needs=(),
    views=_samples,
    by_default=False,
)
def samia(
    continued: Generated,
    *,
    samples: int = option(5, "continuations of a text, sampled at temperature 1", ge=1, le=100),
    zlib_weight: bool = option(True, "weigh each continuation by its zlib size"),
) -> float:
    """Mean over continuations of the ROUGE-1 recall of the text's second half, times the zlib size in bytes of the
    continuation (Kaneko et al. 2024, "Sampling-based pseudo-likelihood for membership inference attacks").

    Draws are torch's, seeded by the harness: another batch size or number of ranks draws others. The size sets
    continuations that repeat themselves back. Of texts of one word there is no half; the score is NaN.
    """
    from rouge_score.rouge_scorer import RougeScorer

    if not continued.rest.split():
        return float("nan")
    scorer = RougeScorer(["rouge1"])
    found = [
        scorer.score(continued.rest, sample)["rouge1"].recall
        * (len(zlib.compress(sample.encode("utf-8"))) if zlib_weight else 1.0)
        for sample in continued.samples
    ]
    return float(sum(found) / len(found))


@attack(
    "extraction",
    "share of the second half's words that greedy decoding gives back",
    source="Carlini et al. 2023",
    needs=(),
    views=(View("continued", prompt=bound(continue_half, 1, False)),),
    metrics=("verbatim_members", "verbatim_nonmembers"),
    by_default=False,
)
def extraction(continued: Generated) -> float:
    """1 − the edit distance by words between the greedy continuation of the first half and the second half, over the
    length of the latter; 1 = extracted verbatim (Carlini et al. 2023, "Quantifying memorization").

    Against the paper: it has 50 tokens of prompt and 50 of continuation; here these are the halves of each text's
    words, so that texts of any length and models whose tokens nobody sees have it.
    """
    from nltk.metrics.distance import edit_distance

    expected = continued.rest.split()
    if not expected:
        return float("nan")
    given = continued.samples[0].split()[: len(expected)]
    return 1.0 - float(edit_distance(expected, given)) / len(expected)
