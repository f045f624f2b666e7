from __future__ import annotations

import pytest
import torch

from midistill_tasks.distill.cache.store import Key, TeacherCache, write_cache
from midistill_tasks.distill.data import IGNORED
from midistill_tasks.distill.loader import BLANK, Collator, Shuffle, TextDataset
from midistill_tasks.distill.trainer import DistillationTrainer
from midistill_tasks.errors import InputError
from midistill_tasks.models.last_head import head_is_last, head_returns

N_TOKENS = 62


@pytest.fixture
def rows(tiny):
    return tiny.tokenizer()(tiny.texts(21))["input_ids"]


@pytest.fixture
def make(recipe_of, rows):
    def make(student, teacher, dataset=None, **changes):
        return DistillationTrainer(student, teacher, recipe_of(**changes), dataset or TextDataset(rows), N_TOKENS)

    return make


def loss_of(trainer, positions):
    batch = Collator()([trainer.train_dataset[position] for position in positions])
    return trainer.compute_loss(trainer.model, batch)


def oracle(student, teacher, rows, alpha=0.5, temperature=2.0):
    """(1−α)·CE + α·T²·KL, mean per token, one text at a time in float64."""
    ce = kl = tokens = 0.0
    for row in rows:
        ids = torch.tensor([row])
        z, y = student(ids).logits[0].double(), teacher(ids).logits[0, :, :N_TOKENS].double()
        p = (y / temperature).softmax(-1)
        q = (z[:, :N_TOKENS] / temperature).log_softmax(-1)
        for t in range(len(row) - 1):
            ce -= z[t].log_softmax(-1)[row[t + 1]]
            kl += (p[t] * (p[t].log() - q[t])).sum()
            tokens += 1
    return (1 - alpha) * ce / tokens + alpha * temperature**2 * kl / tokens


@pytest.mark.parametrize("architecture", ["gpt_neox", "gpt2", "llama", "gemma2"])
def test_the_loss_of_a_padded_batch_and_its_gradient_agree_with_plain_loops(tiny, make, rows, architecture):
    more = {"num_key_value_heads": 2, "head_dim": 8} if architecture == "gemma2" else {}
    student = tiny.model(architecture, layers=1, vocab_size=70, attention_dropout=0.0, **more)
    student.config.resid_pdrop = 0.0
    for module in student.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    teacher = tiny.model(architecture, seed=3, **more).eval()
    trainer = make(student, teacher)
    assert trainer.short_way == (architecture != "gemma2")  # Gemma-2 soft-caps its logits
    positions = [0, 3, 7, 8]
    loss = loss_of(trainer, positions)
    expected = oracle(student, teacher, [rows[position] for position in positions])
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    loss.backward()
    found = {name: parameter.grad.clone() for name, parameter in student.named_parameters()}
    student.zero_grad()
    expected.backward()
    for name, parameter in student.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, atol=2e-6, rtol=1e-3)


@pytest.mark.parametrize(("bits", "rel"), [(32, 1e-5), (8, 1e-3)])
def test_the_cache_with_all_logits_gives_the_loss_of_the_teacher_itself(tiny, make, rows, tmp_path, bits, rel):
    student, teacher = tiny.model(layers=1), tiny.model(seed=3).eval()
    key = Key("t", "k", "x", vocab=N_TOKENS, temperature=2.0, k=N_TOKENS, max_length=16, bits=bits)
    cache = TeacherCache(write_cache(tmp_path, key, teacher, rows), [len(row) for row in rows], key)
    # The texts stand in the cache in another order than in the training set.
    kept = [5, 2, 20, 11]
    cached = make(student, None, TextDataset([rows[position] for position in kept], cache, kept))
    assert loss_of(cached, range(4)).item() == pytest.approx(loss_of(make(student, teacher), kept).item(), rel=rel)


def test_alpha_zero_needs_no_teacher(tiny, make, rows):
    student = tiny.model(layers=1)
    loss = loss_of(make(student, None, loss__alpha=0.0), [4])
    ids = torch.tensor([rows[4]])
    assert loss.item() == pytest.approx(student(ids, labels=ids).loss.item(), rel=1e-5)


def test_compat_paper_asks_the_model_to_repeat_its_input(tiny, make, rows):
    student = tiny.model(layers=1)
    logits = student(torch.tensor([rows[4]])).logits[0]
    unshifted = torch.nn.functional.cross_entropy(logits, torch.tensor(rows[4]))
    trainer = make(student, tiny.model(seed=3).eval(), loss={"compat": "paper"})
    loss_of(trainer, [4])
    assert float(trainer.terms[-1][0]) == pytest.approx(float(unshifted), rel=1e-5)


def test_compat_paper_divides_by_the_labels_and_texts_that_it_sums(tiny, make, rows, stock, tmp_path):
    """A text of n tokens has n labels, where the shifted loss has n - 1; what fills up a batch is no text."""
    student, teacher = tiny.model(layers=1), tiny.model(seed=3).eval()
    stock.shake(teacher)  # else D is next to nothing
    trainer = make(student, teacher, loss={"compat": "paper"}, train__batch_size=32, train__epochs=1)
    with torch.no_grad():
        expected = float(loss_of(trainer, range(len(rows))))
    trainer.terms.clear()
    trainer.train()
    (loss,) = (line["loss"] for line in trainer.state.log_history if "loss" in line)
    assert loss == pytest.approx(expected, rel=1e-5)


def test_accumulated_batches_weigh_tokens_and_not_batches(tiny, make, tmp_path):
    curves = []
    for size, accumulate in ((8, 1), (2, 4)):
        changes = {"output": str(tmp_path / f"by{size}"), "train__batch_size": size, "train__accumulate": accumulate}
        trainer = make(tiny.model(layers=1), tiny.model(seed=3).eval(), **changes)
        trainer.train()
        curves.append([line[name] for line in trainer.state.log_history if "loss" in line for name in ("loss", "ce")])
    assert curves[0] == pytest.approx(curves[1], rel=1e-4)


def test_a_changed_head_is_seen(tiny):
    assert head_is_last(tiny.model())
    capped = tiny.model("gemma2", num_key_value_heads=2, head_dim=8)
    assert not head_is_last(capped)
    model = tiny.model()
    before = model(torch.tensor([[1, 2]])).logits
    with head_returns(model, lambda hidden, head: hidden), torch.no_grad():
        assert model(torch.tensor([[1, 2]])).logits.shape == (1, 2, 16)
    assert torch.equal(model(torch.tensor([[1, 2]])).logits, before)


def test_two_processes_with_half_the_batch_see_what_one_sees():
    shuffle = Shuffle(size=21, multiple=8, seed=5)
    order = list(shuffle)
    assert len(order) == len(shuffle) == 24
    assert sorted(order) == [BLANK] * 3 + list(range(21))
    assert order[21:] == [BLANK] * 3
    shuffle.epoch = 1
    assert list(shuffle) != order


def test_blanks_teach_nothing(rows):
    batch = Collator()([TextDataset(rows)[position] for position in (4, BLANK)])
    assert batch["labels"][1].unique().tolist() == [IGNORED]
    assert batch["labels"][0, : len(rows[4])].tolist() == rows[4]


def test_the_guard_stops_a_non_finite_gradient_before_it_reaches_the_weights(tiny, make):
    student = tiny.model(layers=1)
    trainer = make(student, tiny.model(seed=3).eval(), interventions={"nonorm": True})
    with torch.no_grad():
        student.gpt_neox.layers[0].mlp.dense_h_to_4h.weight.fill_(1e30)
    before = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    with pytest.raises(InputError, match=r"not finite before its first step: NoNorm on copied weights"):
        trainer.train()
    assert all(torch.equal(tensor, before[name]) for name, tensor in student.state_dict().items())
