from __future__ import annotations

import pytest
import torch

from midistill_tasks.distill.sampling.sample import sample

PROMPT, ALL = torch.tensor([[3]]), torch.tensor([[1]])


@pytest.fixture(scope="module")
def model(tiny, stock):
    model = tiny.model(vocab_size=64)
    stock.shake(model)
    # What a model's own config wants is not its distribution.
    model.generation_config.update(top_k=1, repetition_penalty=5.0)
    return model


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_draws_have_the_models_own_distribution_over_the_tokens_there_are(model, temperature):
    n, n_tokens = 20_000, 40
    with torch.no_grad():
        p = (model.eval()(PROMPT).logits[0, -1, :n_tokens].double() / temperature).softmax(-1)
    drawn = sample(
        model, PROMPT.expand(n, 1), ALL.expand(n, 1), length=2, n_tokens=n_tokens, seed=1, temperature=temperature
    )[:, 1]
    counts = torch.bincount(drawn, minlength=64).double()
    assert counts[n_tokens:].sum() == 0
    z = (counts[:n_tokens] / n - p) / (p * (1 - p) / n).sqrt()
    assert z.abs().max() < 4.5
    assert (z**2).mean() < 2


def test_the_seed_alone_decides_and_torchs_own_generator_stays(model):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, same, other = (
        sample(model.train(), PROMPT, ALL, length=12, n_tokens=64, seed=seed, to_the_end=True) for seed in (1, 1, 2)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert model.training
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert one.shape == (1, 12)


def test_a_padded_prompt_is_gone_on_from_as_it_is_alone(tiny, stock):
    """Greedily, since the draws of a row depend on those of the rows above it."""
    model = tiny.model("llama", num_key_value_heads=2)
    stock.shake(model)
    prompts, mask = torch.tensor([[0, 0, 7], [5, 6, 7]]), torch.tensor([[0, 0, 1], [1, 1, 1]])
    cold = {"n_tokens": 64, "seed": 0, "temperature": 1e-6, "to_the_end": True}
    both = sample(model, prompts, mask, length=9, **cold)
    assert both[0, 2:].tolist() == sample(model, torch.tensor([[7]]), ALL, length=7, **cold)[0].tolist()
    assert both[1].tolist() == sample(model, prompts[1:], mask[1:], length=9, **cold)[0].tolist()


def test_nothing_of_the_models_own_generation_config_reaches_the_draws(tiny):
    """Transformers fills what a config leaves open from the model's own: a cut to the likeliest, and to 3 tokens."""
    model, prompts, mask = tiny.model(seed=3), torch.tensor([[5], [6]]), torch.ones(2, 1, dtype=torch.long)
    how = {"length": 12, "n_tokens": 62, "seed": 1, "to_the_end": True}
    plain = sample(model, prompts, mask, **how)
    own = {"min_p": 0.9, "no_repeat_ngram_size": 1, "suppress_tokens": [7], "max_new_tokens": 3}
    model.generation_config.update(**own)
    assert sample(model, prompts, mask, **how).tolist() == plain.tolist()
    assert {key: getattr(model.generation_config, key) for key in own} == own
