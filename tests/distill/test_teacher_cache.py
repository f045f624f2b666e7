from __future__ import annotations

import dataclasses
import os
import signal
import sys
import time

import pytest
import torch
import warm

from midistill_tasks.distill import teacher_cache
from midistill_tasks.distill.data import encode
from midistill_tasks.distill.teacher_cache import (
    Key,
    TeacherCache,
    find_cache,
    hash_tokenizer,
    hash_weights,
    write_cache,
)
from midistill_tasks.errors import InputError
from midistill_tasks.models.loading import load_teacher

KEY = Key(teacher="t", tokenizer="k", texts="x", vocab=62, temperature=2.0, k=5, max_length=16)


@pytest.fixture
def teacher(recipe_of):
    return load_teacher(recipe_of().teacher.model)


@pytest.fixture
def rows(tiny):
    return encode(tiny.texts(20), tiny.tokenizer(), 16).ids


@pytest.fixture
def small_shards(monkeypatch):
    """Shards of six texts."""
    monkeypatch.setattr(teacher_cache, "SHARD_BYTES", 6 * 16 * 5 * teacher_cache.BYTES_PER_LOGIT)


def test_each_entry_is_the_teachers_own_top_k_and_log_sum_exp_over_the_tokens(tmp_path, teacher, rows, small_shards):
    folder = write_cache(tmp_path, KEY, teacher, rows)
    assert len(list(folder.glob("*.safetensors"))) == 4
    cache = TeacherCache(folder, [len(row) for row in rows], KEY)
    for position in (0, 5, 6, 13, 19):
        entry = cache[position]
        z = teacher(torch.tensor([rows[position]])).logits[0, :-1, :62].double()
        assert entry.ids.shape == (len(rows[position]) - 1, 5)
        torch.testing.assert_close(entry.logits.double(), z.gather(-1, entry.ids.long()), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(entry.logits.double(), z.sort(descending=True).values[:, :5], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(entry.lse.double(), z.exp().sum(-1).log(), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(entry.lse_t.double(), (z / 2).exp().sum(-1).log(), atol=1e-5, rtol=1e-5)


def test_it_is_written_once_and_a_truncated_shard_is_written_again(tmp_path, teacher, rows, small_shards, monkeypatch):
    folder = write_cache(tmp_path, KEY, teacher, rows)
    shards = sorted(folder.glob("*.safetensors"))
    before = [shard.read_bytes() for shard in shards]
    shards[1].write_bytes(before[1][:-10])
    shards[2].unlink()
    written = []
    original = teacher_cache._figures
    monkeypatch.setattr(teacher_cache, "_figures", lambda *args: written.append(1) or original(*args))
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
    "change", [{"teacher": "u"}, {"texts": "y"}, {"temperature": 1.0}, {"k": 6}, {"tokenizer": ""}]
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
from midistill_tasks.distill import teacher_cache
teacher_cache.SHARD_BYTES = 1
original = teacher_cache._figures
teacher_cache._figures = lambda *args: time.sleep(0.05) or original(*args)
key = teacher_cache.Key("t", "k", "x", 62, 2.0, 5, 16)
teacher = AutoModelForCausalLM.from_pretrained(sys.argv[1])
teacher_cache.write_cache(Path(sys.argv[2]), key, teacher, [[2, 3, 4 + n] for n in range(40)])
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
    monkeypatch.setattr(teacher_cache, "SHARD_BYTES", 1)
    rows = [[2, 3, 4 + number] for number in range(40)]
    write_cache(tmp_path / "killed", KEY, teacher, rows)
    whole = write_cache(tmp_path / "whole", KEY, teacher, rows)
    for shard in whole.glob("*.safetensors"):
        assert (folder / shard.name).read_bytes() == shard.read_bytes()
