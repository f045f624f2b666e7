"""Every attack, on every kind of model, is what plain float64 loops give one text at a time."""

from __future__ import annotations

import json

import numpy as np
import pytest
from oracle import divergence, gradient_norms, mean_logprob, paired, scores

from midistill_tasks.attacks import ATTACKS

RELATIVE = 1e-4
PAIRED = {"ez", "wbc"}
"""Which need the target's own tokens of their reference."""


@pytest.mark.parametrize("first_token", ["skip", "prefix"])
@pytest.mark.parametrize("architecture", ["gpt2", "gpt_neox", "llama", "gemma2"])
def test_attacks_are_the_oracles(architecture, first_token, tiny, texts, scoring):
    lm = scoring.load(tiny(architecture))
    other = {"llama": "gpt_neox"}.get(architecture, "llama")
    reference = json.dumps({"pretrained": str(tiny(other, seed=1)), "dtype": "float32"})
    shots, judged = texts[:2], texts[2:14]

    got = scoring.attack(lm, judged, shots, reference, first_token=first_token, k=0.3, without=PAIRED)

    model, tokenizer = lm.model, lm.tokenizer
    yardstick = scoring.load(tiny(other, seed=1))
    scored = {name for name, kind in ATTACKS.items() if not (kind.fitted or kind.generates or kind.requires)}
    assert set(got) == scored - PAIRED | {"recall_as_published"}
    for index, text in enumerate(judged):
        expected = scores(model, tokenizer, text, shots, k=0.3, first_token=first_token)
        reference_loss = mean_logprob(yardstick.model, yardstick.tokenizer, text, first_token)
        expected["dcpdd"] = divergence(model, tokenizer, text, judged, first_token)
        expected["gradnorm"] = -gradient_norms(model, tokenizer, text, first_token)["all"][1]
        expected["ref"] = expected["loss"] - reference_loss
        if first_token == "prefix":
            del expected["recall_as_published"]  # refused: it would score the first token in both terms
        for name, value in expected.items():
            # A difference of two of them keeps their error, not its share.
            error = {"pac": 1e-4, "conrecall": 1e-5}.get(name, 0)
            assert got[name][index] == pytest.approx(value, rel=RELATIVE, abs=error), (name, text)


@pytest.mark.parametrize("first_token", ["skip", "prefix"])
@pytest.mark.parametrize("architecture", ["gpt2", "gpt_neox", "llama", "gemma2"])
def test_attacks_that_pair_tokens_are_the_oracles(architecture, first_token, tiny, texts, scoring):
    lm, other = scoring.load(tiny(architecture)), scoring.load(tiny(architecture, seed=1))
    reference = json.dumps({"pretrained": str(tiny(architecture, seed=1)), "dtype": "float32"})

    got = scoring.attack(lm, texts[:12], texts[12:14], reference, first_token=first_token)

    for index, text in enumerate(texts[:12]):
        for name, value in paired(lm.model, other.model, lm.tokenizer, text, first_token).items():
            assert got[name][index] == pytest.approx(value, rel=RELATIVE, nan_ok=True), (name, text)


def test_tiny_models_have_opinions(tiny, texts, scoring):
    """Without them the comparison above could not fail: soft-capping and long prefixes would change nothing."""
    from midistill_tasks.scoring.requests import ViewRequest
    from midistill_tasks.views import TEXT

    for architecture in ("gpt2", "gpt_neox", "llama", "gemma2"):
        (stats,) = scoring.ask(scoring.load(tiny(architecture)), [ViewRequest(texts[0], TEXT)])
        assert np.ptp(stats.logprob) > 3
        assert stats.std.mean() > 0.5


@pytest.mark.parametrize("architecture", ["gpt2", "gpt_neox", "llama", "gemma2"])
def test_norms_of_gradients_are_those_of_a_plain_backward_pass_and_leave_nothing_behind(
    architecture, tiny, texts, scoring
):
    from midistill_tasks.attacks.gradnorm import GRADIENT, GROUPS
    from midistill_tasks.scoring.requests import ViewRequest

    lm = scoring.load(tiny(architecture))
    for parameter in lm.model.parameters():
        parameter.requires_grad_(False)
    (found,) = scoring.ask(lm, [ViewRequest(texts[0], GRADIENT)])
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in lm.model.parameters())
    expected = gradient_norms(lm.model, lm.tokenizer, texts[0], "skip")
    for group, norms in zip(GROUPS, found.gradient, strict=True):
        np.testing.assert_allclose(norms, expected[group], rtol=1e-3)
