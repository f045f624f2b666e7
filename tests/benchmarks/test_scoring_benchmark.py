"""The benchmark of scoring does what its table says; how fast is for the benchmark itself."""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path

import pytest

from midistill_tasks.scoring.backends.hf.causal import HFScorer


@pytest.fixture(scope="module")
def benchmark_script():
    spec = importlib.util.spec_from_file_location("benchmark_of_scoring", Path(__file__).with_name("scoring.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def options(shared, stories260k):
    data = shared / "data" / "wikimia" / "wikimia_32.jsonl"
    return argparse.Namespace(data=data, reference=stories260k, texts=8, rounds=2)


def test_every_way_reads_the_same_texts(benchmark_script, options, stories260k, scoring, monkeypatch):
    lm, reference = scoring.load(stories260k), scoring.load(stories260k)
    texts, shots = benchmark_script.wikimia(options.data, options.texts)
    read = []
    lm.model.get_input_embeddings().register_forward_pre_hook(lambda module, args: read.append(tuple(args[0].shape)))

    benchmark_script.bare(lm, texts)
    assert [rows for rows, _ in read] == [8]
    assert read[0][1] == max(len(lm.tok_encode(text)) for text in texts)

    read.clear()
    benchmark_script.one_at_a_time(lm, reference, texts, shots[:1])
    prefix = len(lm.tok_encode(shots[0]))
    assert [rows for rows, _ in read] == [1] * 16
    assert sum(tokens for _, tokens in read) == 8 * prefix + 2 * sum(len(lm.tok_encode(text)) for text in texts)


def test_its_run_scores_its_texts(benchmark_script, options, stories260k, scoring, monkeypatch):
    scored, original = [], HFScorer.score
    monkeypatch.setattr(benchmark_script, "SHOTS", 1)
    monkeypatch.setattr(
        HFScorer, "score", lambda self, jobs, done: (scored.append(len(jobs)), original(self, jobs, done))
    )
    options.data = options.data.with_name("wikimia_64.jsonl")

    benchmark_script.evaluate(scoring.load(stories260k, max_length=512), ["loss", "recall", "ref"], options)

    assert scored == [16, 8]


def test_the_table_has_the_median_of_the_rounds(benchmark_script, options, capsys):
    rounds = [
        {
            "bare": 10.0,
            "text": 10.2,
            "after": 13.0,
            "six": 25.0,
            "three": 25.0,
            "existing": 25.0,
            "all": 30.0,
            "views": 40.0,
            "singly": 100.0,
        },
        {
            "bare": 20.0,
            "text": 21.0,
            "after": 27.0,
            "six": 50.0,
            "three": 50.0,
            "existing": 51.0,
            "all": 70.0,
            "views": 70.0,
            "singly": 210.0,
        },
        {
            "bare": 30.0,
            "text": 60.0,
            "after": 90.0,
            "six": 80.0,
            "three": 79.0,
            "existing": 88.0,
            "all": 100.0,
            "views": 90.0,
            "singly": 400.0,
        },
    ]
    benchmark_script.report(rounds, {"bare": 1000.0, "ours": 250.0}, options)
    shown = capsys.readouterr().out.splitlines()

    assert [line.rsplit("|", 2)[1].strip() for line in shown[2:9]] == [
        "1.050",
        "1.29",
        "4.20 ×",
        "1.000",
        "1.020",
        "1.000",
        "0.25",
    ]
    assert "bare 20.0" in shown[10]


def test_every_view_of_all_attacks_is_read_bare(benchmark_script, options, stories260k, scoring):
    lm, reference = scoring.load(stories260k), scoring.load(stories260k)
    texts, shots = benchmark_script.wikimia(options.data, options.texts)
    read = []
    for model in (lm, reference):
        model.model.get_input_embeddings().register_forward_pre_hook(lambda module, args: read.append(args[0].shape[0]))
    benchmark_script.every_view_bare(lm, reference, texts, shots[:1])
    assert read == [8] * 10
