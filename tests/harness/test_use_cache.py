"""--use_cache: no model is given another's answers unsaid, and no file costs the run."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from midistill_tasks.errors import InputError
from midistill_tasks.harness.heldout import nonmembers

from .conftest import write_rows

UTILITY = ("word_perplexity,none", "byte_perplexity,none", "bits_per_byte,none")


@pytest.fixture
def models(tiny, scoring):
    """Two models of one tokenizer, as for each run anew."""
    return lambda seed: scoring.load(tiny("gpt2", seed=seed))


@pytest.fixture
def utility(run, models, tmp_path):
    """``utility(seed)``: perplexities of the model of that seed under the one ``--use_cache``."""

    def utility(seed, cache=tmp_path / "cache", **flags):
        flags |= {"use_cache": str(cache)} if cache else {}
        row = run("heldout_files", model=models(seed), **flags)["results"]["heldout_files"]
        return [row[name] for name in UTILITY]

    return utility


@pytest.fixture
def asked(monkeypatch):
    """Per call, how many texts the model was really asked for."""
    from lm_eval.models.huggingface import HFLM

    counts, original = [], HFLM.loglikelihood_rolling

    def loglikelihood_rolling(self, requests, **how):
        counts.append(len(requests))
        return original(self, requests, **how)

    monkeypatch.setattr(HFLM, "loglikelihood_rolling", loglikelihood_rolling)
    return counts


@pytest.mark.slow
def test_two_models_under_one_file_have_each_their_own_perplexity(utility, asked):
    plain = [utility(seed, cache=None) for seed in (0, 1)]
    asked.clear()
    assert [utility(seed) for seed in (0, 1)] == plain
    assert plain[0] != plain[1]
    assert [utility(seed) for seed in (0, 1)] == plain
    assert asked == [24, 24]


@pytest.mark.slow
def test_what_is_not_there_yet_is_asked_and_another_length_is_another_answer(
    utility, asked, run, tiny, scoring, tmp_path
):
    whole = utility(0)
    assert utility(0, limit=5) != whole
    (tmp_path / "cache.midistill.db").unlink()
    utility(0, limit=5)
    assert utility(0) == pytest.approx(whole, rel=1e-6)  # other batches
    assert asked == [24, 5, 19]
    run("heldout_files", model=scoring.load(tiny("gpt2"), max_length=16), use_cache=str(tmp_path / "cache"))
    assert asked[3:] == [24]


def test_nothing_of_ours_is_in_the_harness_s_file(utility, tmp_path):
    utility(0)
    with sqlite3.connect(tmp_path / "cache_rank0.db") as store:
        assert store.execute("SELECT COUNT(*) FROM unnamed").fetchone() == (0,)


def test_the_perplexities_are_those_of_the_harness_s_own_task_to_the_last_bit(utility, run, models, files, tmp_path):
    config = {
        "task": "plain",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(tmp_path / "rows.jsonl")}},
        "test_split": "test",
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "text",
        "metric_list": [{"metric": name.removesuffix(",none")} for name in UTILITY],
    }
    write_rows(tmp_path / "rows.jsonl", [{"text": text} for text in nonmembers("files", mia=files)["test"]["text"]])
    (tmp_path / "plain.yaml").write_text(json.dumps(config))
    row = run("plain", model=models(0), folders=(tmp_path,))["results"]["plain"]
    assert [row[name] for name in UTILITY] == utility(0, cache=None)


# ---------------------------------------------------------------------- the harness's other tasks of the run


@pytest.fixture
def with_choices(run, models, tmp_path):
    """``with_choices(seed)``: held-out perplexity and a task of the harness's own kind under the one file."""
    config = {
        "task": "choices",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(tmp_path / "choices.jsonl")}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "question",
        "doc_to_target": "answer",
        "doc_to_choice": ["yes", "no"],
    }
    rows = [{"question": f"Is {number} even?", "answer": number % 2} for number in range(6)]
    write_rows(tmp_path / "choices.jsonl", rows)
    (tmp_path / "yaml").mkdir()
    (tmp_path / "yaml" / "choices.yaml").write_text(json.dumps(config))

    def with_choices(seed, tasks="heldout_files,choices"):
        flags = {"use_cache": str(tmp_path / "cache"), "folders": (tmp_path / "yaml",)}
        return run(tasks, model=models(seed), **flags)["results"]

    return with_choices


def test_answers_that_another_model_began_are_said_and_one_s_own_are_not(with_choices, said):
    first = with_choices(0)
    again = with_choices(0)
    assert first == again
    assert said("was begun by") == []
    with_choices(1, tasks="heldout_files")  # nothing of the harness's own
    assert said("was begun by") == []
    with_choices(1)
    (warning,) = said("was begun by another model")
    assert "give each model a file of its own" in warning


def test_answers_of_a_run_that_kept_no_model_are_said(with_choices, said, tmp_path):
    with_choices(0)
    (tmp_path / "cache.midistill.db").unlink()
    with_choices(0)
    assert len(said("was begun by a run that did not keep which model it was of")) == 1


def test_a_disk_that_gets_full_costs_the_harness_s_file_and_not_the_run(with_choices, said, monkeypatch):
    import sqlitedict

    plain = with_choices(0)

    def full(*_):
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(sqlitedict.SqliteDict, "__setitem__", full)
    monkeypatch.setattr(sqlitedict.SqliteDict, "__getitem__", lambda *_: full())
    assert with_choices(0) == plain
    assert len(said("fails (database or disk is full), so nothing more is kept there")) == 1


def test_a_damaged_answer_is_asked_again(with_choices, said, tmp_path):
    plain = with_choices(0)
    with sqlite3.connect(tmp_path / "cache_rank0.db") as store:
        store.execute("UPDATE unnamed SET value = x'8005' WHERE rowid = (SELECT MAX(rowid) FROM unnamed)")
    assert with_choices(0) == plain
    assert len(said("what is damaged is asked again")) == 1


@pytest.mark.parametrize("damage", [b"no database at all", None])
def test_a_damaged_file_of_the_harness_is_set_aside(damage, with_choices, said, tmp_path):
    plain = with_choices(0)
    path = tmp_path / "cache_rank0.db"
    path.write_bytes(damage or path.read_bytes()[:5000])
    assert with_choices(0) == plain
    assert len(said("cache_rank0.db is damaged")) == 1
    assert Path(f"{path}.damaged").is_file()


def test_a_file_that_cannot_be_written_is_one_sentence(utility, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"--use_cache: .*c_rank0\.db cannot be written .*: give a folder"):
        utility(0, cache=tmp_path / "file" / "c")
