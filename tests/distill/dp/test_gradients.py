"""Gradients of single texts against autograd on one text at a time, and the noisy sum of them."""

from __future__ import annotations

import pytest
import torch
from made_students import changes

from midistill_tasks.distill.dp.accounting import Mechanism
from midistill_tasks.distill.dp.gradients import PrivateGradients, logits_of
from midistill_tasks.distill.dp.trainer import _parts
from midistill_tasks.distill.loader import Collator, TextDataset
from midistill_tasks.distill.lora import with_lora
from midistill_tasks.distill.loss.divergences import forward_kl
from midistill_tasks.distill.loss.engine import distillation_loss
from midistill_tasks.distill.loss.sources import Logits
from midistill_tasks.errors import InputError
from midistill_tasks.models.architectures import convert
from midistill_tasks.recipes.schema import Lora

ROWS = [[5, 6, 7, 8, 9, 10, 11], [3, 3], [40, 2, 41, 2], [9, 8, 7, 6, 5]]
NOISELESS = Mechanism(noise_multiplier=0.0, sample_rate=0.5, steps=1, batch=4)


@pytest.fixture
def batch():
    return Collator()([{"ids": row, "blank": False} for row in ROWS])


@pytest.fixture
def loss_of(stock):
    """(1−α)·CE + α·T²·KL with a teacher, which reads the same texts."""
    teacher = stock.model("llama", seed=5)

    def loss_of(model, batch):
        student, labels = Logits(logits_of(model, batch)), batch["labels"]
        with torch.no_grad():
            told = Logits(teacher(batch["input_ids"], attention_mask=batch["attention_mask"]).logits)
        return distillation_loss(student, told, labels, divergence=forward_kl, n_tokens=1, per_text=True).loss

    return loss_of


def by_autograd(model, teacher_loss, rows):
    """[texts] of gradients: a text alone, unpadded, without hooks, positions as the model itself makes them."""
    found = []
    for row in rows:
        model.zero_grad()
        alone = Collator()([{"ids": row, "blank": False}])
        teacher_loss(lambda input_ids, attention_mask, position_ids, use_cache: model(input_ids), alone).backward()
        found.append([p.grad.clone() for p in model.parameters() if p.requires_grad])
    model.zero_grad()
    return found


STUDENTS = {
    "llama": ("llama", {}, {}),
    "llama, tied": ("llama", {"tie_word_embeddings": True}, {}),
    "gpt2": ("gpt2", {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}, {}),
    "gpt_neox": ("gpt_neox", {}, {}),
    "gpt_neox, tied": ("gpt_neox", {"tie_word_embeddings": True}, {}),
    "nonorm and bottleneck": ("llama", {}, {"nonorm": True, "bottleneck": 4}),
    "nonorm and bottleneck, gpt2": (
        *("gpt2", {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}),
        {"nonorm": True, "bottleneck": 4},
    ),
}


@pytest.mark.parametrize("name", STUDENTS)
def test_each_text_has_the_gradient_that_it_has_alone(stock, batch, loss_of, name):
    model_type, config, interventions = STUDENTS[name]
    model = stock.model(model_type, **config)
    if interventions:
        model = convert(model, changes(**interventions))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(0.3)  # without norms values grow from layer to layer
    model.train()
    expected = by_autograd(model, loss_of, ROWS)
    private = PrivateGradients(model, NOISELESS, max_grad_norm=1.0)
    found = private.of_texts(batch, loss_of)
    for number, gradients in enumerate(expected):
        for ours, theirs in zip(found, gradients, strict=True):
            torch.testing.assert_close(ours[number], theirs, atol=1e-5, rtol=1e-3)
    private.check(loss_of)


def test_adapters_too(stock, batch, loss_of):
    model = with_lora(stock.model("llama"), Lora(rank=2), []).train()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    expected = by_autograd(model, loss_of, ROWS)
    found = PrivateGradients(model, NOISELESS, 1.0).of_texts(batch, loss_of)
    assert len(found) == 2 * 7 * 2  # A and B of seven layers of two blocks
    for number, gradients in enumerate(expected):
        for ours, theirs in zip(found, gradients, strict=True):
            torch.testing.assert_close(ours[number], theirs, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("at_once", [1, 3, 4])
def test_the_sum_of_clipped_gradients_over_the_expected_batch(stock, batch, loss_of, at_once):
    model = stock.model("llama").train()
    norms = [torch.stack([g.norm() for g in gradients]).norm() for gradients in by_autograd(model, loss_of, ROWS)]
    limit = float(sorted(norms)[1] * 1.01)  # two of the four are clipped
    expected = None
    for gradients, norm in zip(by_autograd(model, loss_of, ROWS), norms, strict=True):
        clipped = [g * min(1.0, limit / float(norm)) / 8 for g in gradients]
        expected = clipped if expected is None else [a + b for a, b in zip(expected, clipped, strict=True)]
    private = PrivateGradients(model, Mechanism(0.0, 0.5, 1, batch=8), limit)
    for _ in range(2):  # nothing of a step stays for the next
        private.take(_parts(batch, at_once), loss_of)
        for parameter, gradient in zip(model.parameters(), expected, strict=True):
            torch.testing.assert_close(parameter.grad, gradient, atol=1e-6, rtol=1e-3)


def test_a_step_without_texts_is_noise_of_the_promised_size_and_never_twice_the_same(stock, loss_of):
    model = stock.model("llama").train()
    private = PrivateGradients(model, Mechanism(noise_multiplier=3.0, sample_rate=0.1, steps=1, batch=10), 0.5)
    drawn = []
    for _ in range(2):
        assert private.take([], loss_of) == 0
        drawn.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    for noise in drawn:
        assert noise.std() == pytest.approx(3.0 * 0.5 / 10, rel=0.05)
    assert abs(torch.corrcoef(torch.stack(drawn))[0, 1]) < 0.1
    again = PrivateGradients(stock.model("llama").train(), private_mechanism := Mechanism(3.0, 0.1, 1, 10), 0.5)
    torch.manual_seed(0)  # a known seed is not the noise's
    again.take([], loss_of)
    assert not torch.equal(torch.cat([p.grad.flatten() for p in again.parameters]), drawn[0])
    assert private_mechanism.batch == 10


def test_the_model_is_as_it_was_afterwards(stock, batch, loss_of):
    model = stock.model("gpt_neox").train()
    private = PrivateGradients(model, NOISELESS, 1.0)
    private.take([batch], loss_of)
    private.close()
    model.zero_grad()
    loss_of(model, batch).backward()
    assert all(p.grad is not None and not hasattr(p, "grad_sample") for p in model.parameters())
    assert not any(module._forward_hooks or module._backward_hooks for module in model.modules())


def test_what_the_hooks_do_not_see_is_refused(stock, loss_of):
    with pytest.raises(InputError, match=r"of OPTForCausalLM .*remove dp"):
        PrivateGradients(stock.model("opt"), NOISELESS, 1.0).check(loss_of)
    with pytest.raises(InputError, match=r"of Gemma2ForCausalLM .*buffers"):
        PrivateGradients(stock.model("gemma2"), NOISELESS, 1.0)


def test_texts_that_lean_on_each_other_are_refused(stock):
    model = stock.model("llama").train()

    def of_batch(model, batch):  # the mean of all tokens: a long text weighs on the others
        logits = logits_of(model, batch)
        return distillation_loss(Logits(logits), None, batch["labels"], alpha=0).loss

    with pytest.raises(InputError, match=r"are not autograd's"):
        PrivateGradients(model, NOISELESS, 1.0).check(of_batch)


def test_the_parts_of_a_batch_are_its_texts():
    dataset = TextDataset(ROWS)
    parts = list(_parts(Collator()([dataset[number] for number in range(4)]), 3))
    assert [len(part["labels"]) for part in parts] == [3, 1]
    assert parts[1]["input_ids"].tolist() == [ROWS[3]]
