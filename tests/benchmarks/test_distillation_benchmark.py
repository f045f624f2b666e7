"""That the benchmark measures, at sizes whose times mean nothing; its memory's do, being no matter of luck."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent)
    import distillation

    return distillation


def test_each_round_gives_a_ratio_of_times(benchmark, tmp_path):
    for measured in (benchmark.step_ratios, benchmark.cache_ratios):
        ratios = measured(benchmark.QUICK, tmp_path)
        assert len(ratios) == benchmark.QUICK.rounds
        assert all(0 < ratio < float("inf") for ratio in ratios)


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="peak memory is read from Linux's /proc")
def test_the_loss_takes_half_the_memory_of_full_logits(benchmark):
    assert benchmark.memory_ratios(5000, 64, 4, 2048)[0] < 0.5


def test_a_trl_that_cannot_be_installed_is_said_so_in_its_row(benchmark, monkeypatch, tmp_path):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    found = benchmark.trl_ratios(benchmark.QUICK, tmp_path)
    row = benchmark.Row("tokens per second", "report it", "≥ 1.2", found)
    assert f"not measured: {benchmark.TRL} cannot be had" in "".join(benchmark.table([row]))
