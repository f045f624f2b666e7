from __future__ import annotations

import pytest
import torch

from midistill_tasks.distill.data import IGNORED
from midistill_tasks.distill.loader import BLANK, Collator, TextDataset
from midistill_tasks.distill.sampling.on_policy import is_on_policy, own_texts
from midistill_tasks.distill.trainer import DistillationTrainer

N_TOKENS = 62


@pytest.fixture
def rows(tiny):
    return tiny.tokenizer()(tiny.texts(16))["input_ids"]


@pytest.fixture
def trainer_of(tiny, recipe_of, rows):
    def trainer_of(**changes):
        torch.manual_seed(0)
        student, teacher = tiny.model(layers=1), tiny.model(seed=3).eval()
        return DistillationTrainer(student, teacher, recipe_of(**changes), TextDataset(rows), N_TOKENS)

    return trainer_of


def test_a_text_keeps_its_beginning_its_length_and_nothing_else(tiny, rows):
    model = tiny.model()
    model.generation_config.eos_token_id = 0
    data = TextDataset(rows)
    batch = Collator()([data[0], data[1], data[2], data[BLANK]])
    own = own_texts(model, batch, tokens=2, n_tokens=N_TOKENS, seed=0)
    mask = batch["attention_mask"].bool()
    assert torch.equal(own["input_ids"][:, :2], batch["input_ids"][:, :2])
    assert not torch.equal(own["input_ids"], batch["input_ids"])
    assert torch.equal(own["input_ids"][~mask], batch["input_ids"][~mask])
    assert torch.equal(own["labels"] == IGNORED, batch["labels"] == IGNORED)
    taught = own["labels"] != IGNORED
    assert torch.equal(own["labels"][taught], own["input_ids"][taught])
    assert 0 not in own["input_ids"][:, 2:][mask[:, 2:]]  # no end of text
    assert torch.equal(own["input_ids"], own_texts(model, batch, 2, N_TOKENS, seed=0)["input_ids"])
    assert not torch.equal(own["input_ids"], own_texts(model, batch, 2, N_TOKENS, seed=1)["input_ids"])


def test_the_loss_is_alpha_t2_times_the_divergence_on_the_students_own_texts(trainer_of):
    trainer = trainer_of(loss={"on_policy": 1.0, "on_policy_tokens": 2, "alpha": 0.4})
    batch = Collator()([trainer.train_dataset[position] for position in range(4)])
    loss = trainer.compute_loss(trainer.model, batch)
    own = own_texts(trainer.model, batch, 2, N_TOKENS, seed=0)
    expected = tokens = 0.0
    for ids, mask in zip(own["input_ids"], own["attention_mask"], strict=True):
        ids = ids[None, : int(mask.sum())]
        log_q = (trainer.model(ids).logits[0, :-1, :N_TOKENS].double() / 2).log_softmax(-1)
        log_p = (trainer.teacher(ids).logits[0, :-1, :N_TOKENS].double() / 2).log_softmax(-1)
        expected += (log_p.exp() * (log_p - log_q)).sum().item()
        tokens += ids.shape[1] - 1
    assert loss.item() == pytest.approx(0.4 * 4 * expected / tokens, rel=1e-4)


def test_steps_are_chosen_by_their_number_and_the_log_means_ce_over_the_others(trainer_of):
    chosen = [is_on_policy(0.5, 0, step) for step in range(6)]
    assert 0 < sum(chosen) < 6
    assert sum(is_on_policy(0.25, 1, step) for step in range(4000)) == pytest.approx(
        1000, abs=4 * (4000 * 3 / 16) ** 0.5
    )
    trainer = trainer_of(loss={"on_policy": 0.5}, train__epochs=3)
    trainer.train()
    lines = [line for line in trainer.state.log_history if "divergence" in line]
    assert ["ce" not in line for line in lines] == chosen
    assert all(line["ce"] > 1 for line in lines if "ce" in line)
