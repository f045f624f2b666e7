"""A cache file that is damaged, or a place that cannot be written: the run goes on, and no figure is another."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from midistill_tasks.errors import warn_once
from midistill_tasks.scoring.cache import StatsCache
from midistill_tasks.scoring.protocol import Job, Result


@pytest.fixture(autouse=True)
def _nothing_said_yet():
    warn_once.cache_clear()


def flip(path, at):
    with path.open("r+b") as file:
        file.seek(at)
        (byte,) = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ 1]))


@pytest.fixture
def filled(tiny, texts, scoring, views, cached, tmp_path):
    """The cache of ten views in one file, without a log beside it, and the answers that filled it."""
    path = tmp_path / "cache.midistill.db"
    answers = scoring.ask(cached(tiny("gpt2")), views.plain(texts[:10]))
    assert [each.name for each in tmp_path.glob("cache.midistill.db*")] == [path.name]
    return path, answers


def test_a_record_with_a_flipped_bit_is_scored_again_and_said(
    filled, tiny, texts, scoring, views, cached, scored, caplog
):
    path, answers = filled
    flip(path, path.read_bytes().find(answers[4].logprob.tobytes()) + 2)
    again = scoring.ask(cached(tiny("gpt2")), views.plain(texts[:10]))
    scoring.ask(cached(tiny("gpt2")), views.plain(texts[:10]))

    assert scored == [1, 0]
    assert f"1 views are scored again: their records in {path} are damaged" in caplog.text
    views.assert_same(again, answers)


@pytest.mark.parametrize("damage", ["cut", "head", "schema", "log", "page"])
def test_a_damaged_file_never_stops_a_run_nor_changes_a_figure(
    damage, filled, tiny, texts, scoring, views, cached, scored, caplog
):
    path, answers = filled
    content = path.read_bytes()
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "head":
        path.write_bytes(b"no database" + content[11:])
    elif damage == "schema":
        flip(path, content.find(b"CREATE TABLE"))
    elif damage == "page":
        path.write_bytes(content[:4096] + bytes(range(256)) * (len(content[4096:]) // 256))
    else:
        path.with_name(path.name + "-wal").write_bytes(content[:5000])
    again = scoring.ask(cached(tiny("gpt2")), views.plain(texts[:10]))
    scoring.ask(cached(tiny("gpt2")), views.plain(texts[:10]))

    aside = path.with_name(path.name + ".damaged")
    if damage != "log":  # which SQLite itself knows for no log of its own
        assert f"{path} is damaged" in caplog.text
        assert aside.is_file()
        assert scored[0] > 0
    assert scored[1] == 0  # what was set aside has been replaced
    views.assert_same(again, answers)


def test_any_flipped_bit_is_found_or_changes_nothing(tmp_path):
    """Through all places of a small file, in strides."""
    original, path = tmp_path / "original.db", tmp_path / "c.db"
    jobs = [Job((number, 1, 2, 3)) for number in range(30)]
    figures = {job: Result(np.random.default_rng(job.ids[0]).random(3).astype(np.float32)) for job in jobs}
    cache = StatsCache(original, "model")
    for job in jobs:
        cache.put(job, figures[job])
    cache.close()
    for at in [*range(110), *range(110, original.stat().st_size, 97)]:
        shutil.copyfile(original, path)
        flip(path, at)
        cache = StatsCache(path, "model")
        for job in jobs:
            back = cache.get(job)
            assert back is None or np.array_equal(back.logprob, figures[job].logprob)
        cache.put(jobs[0], figures[jobs[0]])
        cache.close()
        for left in tmp_path.glob("c.db*"):
            left.unlink()


def test_a_cache_that_cannot_be_written_is_done_without_and_said_once(
    tiny, texts, scoring, views, cached, scored, tmp_path, caplog
):
    (tmp_path / "cache.midistill.db").mkdir()
    plain = scoring.ask(scoring.load(tiny("gpt2")), views.plain(texts[:3]))
    for _ in range(2):
        views.assert_same(scoring.ask(cached(tiny("gpt2")), views.plain(texts[:3])), plain, tolerance=0)

    assert caplog.text.count("cannot be used (unable to open database file)") == 1


@pytest.mark.parametrize("pragma", ["max_page_count=1", "query_only=1"])
def test_a_disk_that_gets_full_costs_the_cache_and_not_the_run(
    pragma, tiny, texts, scoring, views, cached, monkeypatch, caplog
):
    original = StatsCache.put

    def put(self, job, result):
        if self.connection is not None:
            self.connection.execute(f"PRAGMA {pragma}")
        original(self, job, result)

    monkeypatch.setattr(StatsCache, "put", put)
    answers = scoring.ask(cached(tiny("gpt2")), views.plain(texts[:20]))
    views.assert_same(answers, scoring.ask(scoring.load(tiny("gpt2")), views.plain(texts[:20])), tolerance=0)

    assert caplog.text.count("so the figures of this run are not kept") == 1


def test_a_folder_that_is_none_costs_the_cache_and_not_the_run(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    cache = StatsCache(tmp_path / "file" / "c.db", "model")
    cache.put(Job((1, 2)), Result(np.zeros(1, dtype=np.float32)))

    assert cache.get(Job((1, 2))) is None
    assert "give a file in a folder that can be written" in caplog.text


def test_two_ranks_that_meet_a_damaged_file_set_it_aside_once(tmp_path, caplog):
    path = tmp_path / "c.db"
    path.write_bytes(b"no database at all")
    first = StatsCache(path, "model")
    first.put(Job((1, 2)), Result(np.ones(1, dtype=np.float32)))
    second = StatsCache(path, "model")

    assert second.get(Job((1, 2))).logprob.tolist() == [1]
    assert (tmp_path / "c.db.damaged").read_bytes() == b"no database at all"
    assert caplog.text.count("is damaged") == 1
