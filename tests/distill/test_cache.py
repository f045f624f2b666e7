from __future__ import annotations

import dataclasses
import os
import signal
import sys
import time

import pytest
import torch
import warm
from made_students import changes

from midistill_tasks.distill.cache import store
from midistill_tasks.distill.cache.layouts import Rounded, Sampled
from midistill_tasks.distill.cache.store import (
    Key,
    TeacherCache,
    find_cache,
    hash_tokenizer,
    hash_weights,
    settled,
    write_cache,
)
from midistill_tasks.distill.data import encode
from midistill_tasks.distill.loss.divergences import forward_kl, reverse_kl
from midistill_tasks.distill.loss.engine import distillation_loss
from midistill_tasks.distill.loss.sources import Logits
from midistill_tasks.errors import InputError
from midistill_tasks.models.architectures import convert
from midistill_tasks.models.loading import load_teacher

EARLIER = Key(teacher="t", tokenizer="k", texts="x", vocab=62, temperature=2.0, k=5, max_length=16)
"""Of 0.1.0, in float32."""
KEY = dataclasses.replace(EARLIER, bits=8)
SAMPLES = dataclasses.replace(EARLIER, k=0, samples=40)


@pytest.fixture
def teacher(recipe_of):
    return load_teacher(recipe_of().teacher.model)


@pytest.fixture
def rows(tiny):
    return encode(tiny.texts(20), tiny.tokenizer(), 16).ids


@pytest.fixture
def small_shards(monkeypatch):
    """Shards of six texts."""
    monkeypatch.setattr(store, "SHARD_BYTES", 6 * 16 * KEY.layout.bytes_a_token)


def read(tmp_path, key, teacher, rows, batch_size=8):
    folder = write_cache(tmp_path, key, teacher, rows, batch_size=batch_size)
    return TeacherCache(folder, [len(row) for row in rows], key)


def logits_of(teacher, row):
    return teacher(torch.tensor([row])).logits[0, :-1, :62].double()


def test_a_cache_of_0_1_0_is_the_teachers_top_k_and_found_by_its_old_name(tmp_path, teacher, rows):
    assert EARLIER.name == "9a0fdfd6fd7bf754"
    cache = read(tmp_path, EARLIER, teacher, rows)
    assert settled(tmp_path, KEY) == EARLIER == find_cache(tmp_path, dataclasses.replace(KEY, teacher=""))
    for position in (0, 5, 6, 13, 19):
        entry, z = cache[position], logits_of(teacher, rows[position])
        assert entry["ids"].shape == (len(rows[position]) - 1, 5)
        torch.testing.assert_close(entry["logits"].double(), z.gather(-1, entry["ids"].long()), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(entry["logits"].double(), z.sort(descending=True).values[:, :5], atol=1e-5, rtol=0)
        torch.testing.assert_close(entry["lse"].double(), z.exp().sum(-1).log(), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(entry["lse_t"].double(), (z / 2).exp().sum(-1).log(), atol=1e-5, rtol=1e-5)


def test_each_entry_is_the_teachers_top_k_to_half_a_step_with_the_probability_that_they_have(
    tmp_path, teacher, rows, small_shards
):
    cache = read(tmp_path, KEY, teacher, rows)
    assert len(list((tmp_path / KEY.name).glob("*.safetensors"))) == 4
    for position in (0, 5, 6, 13, 19):
        batch = {name: array[None] for name, array in cache[position].items()}
        top, z = cache.source(batch), logits_of(teacher, rows[position])
        exact = z.gather(-1, top.ids[0].long())
        step = (exact.amax(-1) - exact.amin(-1)) / 254
        assert bool(((top.source[0].double() - exact).abs() <= 0.51 * step[:, None] + 1e-6).all())
        of_all = (z / 2).softmax(-1).sort(descending=True).values[:, :5].sum(-1)
        found = (top.source[0].double() / 2 - top.lse[0, :, None]).exp().sum(-1)
        torch.testing.assert_close(found, of_all, atol=1e-5, rtol=1e-5)


def test_a_logit_of_minus_infinity_stays_one():
    logits = torch.tensor([[3.0, 1.0, -torch.inf, 0.5]])
    arrays = Rounded(4, 2.0, 4).arrays(logits, [0, 0])
    source = Rounded(4, 2.0, 4).source({name: array[None] for name, array in arrays.items()}, 4)
    torch.testing.assert_close(source.source[0, 0].sort().values, logits[0].sort().values, atol=0.01, rtol=0)


@pytest.mark.parametrize(("key", "most"), [({"k": 128, "bits": 8}, 400), ({"k": 0, "samples": 50}, 200)])
def test_a_token_of_a_vocabulary_of_49152_takes_few_bytes(tmp_path, tiny, key, most):
    key = dataclasses.replace(EARLIER, vocab=49152, max_length=64, **key)
    rows = [[7, *range(63)]] * 8
    folder = write_cache(tmp_path, key, tiny.model(vocab_size=49152).eval(), rows)
    (shard,) = folder.glob("*.safetensors")
    assert key.layout.bytes_a_token <= most
    assert shard.stat().st_size <= 8 * 63 * key.layout.bytes_a_token + 1000  # the names of the arrays


def test_draws_depend_on_the_text_and_the_seed_not_on_batch_shard_and_rank(tmp_path, teacher, rows, monkeypatch):
    whole = read(tmp_path / "one", SAMPLES, teacher, rows)
    monkeypatch.setattr(store, "SHARD_BYTES", 3 * 16 * SAMPLES.layout.bytes_a_token)
    turned = rows[::-1]
    for rank in (1, 0):
        write_cache(tmp_path / "two", SAMPLES, teacher, turned, rank, ranks=2, batch_size=1)
    parts = TeacherCache(tmp_path / "two" / SAMPLES.name, [len(row) for row in turned], SAMPLES)
    other = read(tmp_path / "one", dataclasses.replace(SAMPLES, seed=1), teacher, rows)
    for position in range(len(rows)):
        assert torch.equal(whole[position]["ids"], parts[len(rows) - 1 - position]["ids"])
    assert not all(torch.equal(whole[position]["ids"], other[position]["ids"]) for position in range(len(rows)))


def sampled_source(logits, seeds, samples, vocab):
    """Of the same text for each seed: the source [seeds, T, …]."""
    layouts = [Sampled(samples, seed, 2.0, vocab) for seed in seeds]
    arrays = [layout.arrays(logits, [3] * (len(logits) + 1)) for layout in layouts]
    return layouts[0].source({name: torch.stack([each[name] for each in arrays]) for name in layouts[0].names}, vocab)


def test_draws_give_the_divergence_and_its_gradient_without_bias():
    """The mean over 3,000 seeds is within four standard errors of the exact one, for each token of three places."""
    torch.manual_seed(0)
    seeds, vocab = range(3000), 12
    logits, log_q = 2 * torch.randn(3, vocab), torch.randn(3, vocab).log_softmax(-1)
    exact = Logits(logits[None]).compare((logits / 2,), log_q.exp(), log_q.clone(), forward_kl)
    source = sampled_source(logits, seeds, 20, vocab)
    q = log_q.repeat(len(seeds), 1)
    drawn = source.compare(source.part(torch.arange(len(q)), 2.0, q), q.exp(), q, forward_kl)
    for found, expected in zip(drawn, exact, strict=True):
        found = found.view(len(seeds), 3, -1).double()
        error = found.std(0) / len(seeds) ** 0.5
        assert float(error.min()) > 0
        assert bool(((found.mean(0) - expected.view(3, -1)).abs() <= 4 * error).all())


def test_where_the_draws_cannot_be_off_the_loss_is_the_teachers():
    p = torch.tensor([[0.5, 0.25, 0.25, 0.0], [0.25, 0.0, 0.0, 0.75]])
    teacher, student, labels = 2 * p.log()[None], torch.randn(1, 3, 4), torch.tensor([[1, 2, 3]])
    source = sampled_source(torch.cat([teacher[0], teacher[0, :1]]), [0], 4, 4)
    whole = Logits(torch.cat([teacher, teacher[:, :1]], 1))
    losses = []
    for given in (source, whole):
        x = student.clone().requires_grad_()
        found = distillation_loss(Logits(x), given, labels, temperature=2.0)
        found.loss.backward()
        losses.append((found.loss.detach(), found.divergence, x.grad))
    for found, expected in zip(*losses, strict=True):
        torch.testing.assert_close(found, expected)
    with pytest.raises(ValueError, match="forward KL only"):
        distillation_loss(Logits(student), source, labels, divergence=reverse_kl)


def test_it_is_written_once_and_a_truncated_shard_is_written_again(tmp_path, teacher, rows, small_shards, monkeypatch):
    folder = write_cache(tmp_path, KEY, teacher, rows)
    shards = sorted(folder.glob("*.safetensors"))
    before = [shard.read_bytes() for shard in shards]
    shards[1].write_bytes(before[1][:-10])
    shards[2].unlink()
    written = []
    original = store._arrays
    monkeypatch.setattr(store, "_arrays", lambda *args: written.append(1) or original(*args))
    write_cache(tmp_path, KEY, teacher, rows)
    assert len(written) == 2
    assert [shard.read_bytes() for shard in shards] == before


def test_two_ranks_write_the_cache_of_one(tmp_path, teacher, rows, small_shards):
    whole = write_cache(tmp_path / "one", KEY, teacher, rows)
    for rank in (1, 0):
        halves = write_cache(tmp_path / "two", KEY, teacher, rows, rank, ranks=2)
    assert {path.name: path.read_bytes() for path in whole.iterdir()} == {
        path.name: path.read_bytes() for path in halves.iterdir()
    }


def test_an_incomplete_cache_is_refused(tmp_path, teacher, rows, small_shards):
    folder = write_cache(tmp_path, KEY, teacher, rows, rank=0, ranks=2)
    with pytest.raises(InputError, match="2 shards missing"):
        TeacherCache(folder, [len(row) for row in rows], KEY)


@pytest.mark.parametrize(
    "change",
    [{"teacher": "u"}, {"texts": "y"}, {"temperature": 1.0}, {"k": 6}, {"tokenizer": ""}, {"samples": 5}, {"seed": 1}],
)
def test_another_teacher_text_or_temperature_is_another_cache(change):
    assert dataclasses.replace(KEY, **change).name != KEY.name


def test_without_a_teacher_its_cache_is_found_by_everything_else(tmp_path, teacher, rows):
    write_cache(tmp_path, KEY, teacher, rows)
    assert find_cache(tmp_path, dataclasses.replace(KEY, teacher="")) == KEY
    with pytest.raises(InputError, match="holds 0 caches"):
        find_cache(tmp_path, dataclasses.replace(KEY, teacher="", texts="y"))
    write_cache(tmp_path, dataclasses.replace(KEY, teacher="another"), teacher, rows)
    with pytest.raises(InputError, match="holds 2 caches"):
        find_cache(tmp_path, dataclasses.replace(KEY, teacher=""))


def test_hashes_see_one_weight_and_one_token(tiny):
    model = tiny.model()
    before = hash_weights(model)
    assert hash_weights(tiny.model()) == before
    with torch.no_grad():
        next(model.parameters())[0, 0] += 1e-3
    assert hash_weights(model) != before
    assert hash_tokenizer(tiny.tokenizer()) != hash_tokenizer(tiny.tokenizer([*tiny.words[:-1], "other"]))


def test_what_acts_behind_the_head_makes_another_teacher_of_the_same_weights(stock):
    models = [convert(stock.model("llama"), changes(temperature=by)) for by in (1.0, 5.0, 5.0)]
    plain, hot, again = map(hash_weights, models)
    assert models[0].state_dict().keys() == models[1].state_dict().keys()
    assert hot == again
    assert hot != plain == hash_weights(stock.model("llama"))


def test_a_full_disk_says_what_is_needed_and_keeps_what_is_there(tmp_path, teacher, rows, small_shards, monkeypatch):
    calls = []

    def full(source, target):
        calls.append(target)
        if len(calls) > 3:
            raise OSError(28, "No space left on device")
        os.rename(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(InputError, match=r"cannot be written .*No space left.*MB in all"):
        write_cache(tmp_path, KEY, teacher, rows)
    folder = tmp_path / KEY.name
    assert sorted(path.name for path in folder.iterdir()) == [
        "key.json",
        "shard-000000.safetensors",
        "shard-000001.safetensors",
    ]


KILLED = """
import sys, time
from pathlib import Path
from transformers import AutoModelForCausalLM
from midistill_tasks.distill.cache import store
store.SHARD_BYTES = 1
original = store._arrays
store._arrays = lambda *args: time.sleep(0.05) or original(*args)
key = store.Key("t", "k", "x", 62, 2.0, 5, 16, bits=8)
teacher = AutoModelForCausalLM.from_pretrained(sys.argv[1])
store.write_cache(Path(sys.argv[2]), key, teacher, [[2, 3, 4 + n] for n in range(40)])
"""


def test_kill_9_leaves_whole_shards_only_and_the_next_run_goes_on(tmp_path, teacher, teacher_folder, monkeypatch):
    command = [sys.executable, "-c", KILLED, str(teacher_folder), str(tmp_path / "killed")]
    process = warm.start(command)
    folder = tmp_path / "killed" / KEY.name
    while len(list(folder.glob("*.safetensors"))) < 5:
        assert process.is_alive()
        time.sleep(0.02)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert 5 <= len(list(folder.glob("*.safetensors"))) < 40
    monkeypatch.setattr(store, "SHARD_BYTES", 1)
    rows = [[2, 3, 4 + number] for number in range(40)]
    write_cache(tmp_path / "killed", KEY, teacher, rows)
    whole = write_cache(tmp_path / "whole", KEY, teacher, rows)
    for shard in whole.glob("*.safetensors"):
        assert (folder / shard.name).read_bytes() == shard.read_bytes()
