"""The noise of a promise, against the exact ε of the Gaussian mechanism and against itself."""

from __future__ import annotations

import importlib.util
import math

import pytest
from scipy.optimize import brentq
from scipy.stats import norm

from midistill_tasks.distill.dp.accounting import check_ready, mechanism
from midistill_tasks.errors import InputError
from midistill_tasks.recipes.schema import DP


def exact_epsilon(noise_multiplier, steps, delta):
    """Of full batches: Balle and Wang 2018 (arXiv 1805.06530), theorem 8, at sensitivity √steps."""
    mu = math.sqrt(steps) / noise_multiplier

    def excess(eps):
        return norm.cdf(mu / 2 - eps / mu) - math.exp(eps) * norm.cdf(-mu / 2 - eps / mu) - delta

    return brentq(excess, 0, 100)


def test_full_batches_need_the_noise_of_the_gaussian_mechanism():
    dp = DP(epsilon=2.0, delta=1e-5)
    found = mechanism(dp, texts=8, batch=8, epochs=5)
    assert (found.sample_rate, found.steps, found.batch) == (1.0, 5, 8)
    exact = exact_epsilon(found.noise_multiplier, 5, dp.delta)
    spent = found.spent(dp, 5)
    assert exact <= spent["epsilon"] <= 2.0
    assert exact == pytest.approx(2.0, abs=0.05)


def test_what_is_spent_stays_below_the_promise_and_grows_with_the_steps():
    dp = DP(epsilon=1.0, delta=1e-5)
    found = mechanism(dp, texts=103, batch=10, epochs=3)
    assert (found.sample_rate, found.steps) == (10 / 103, 33)
    spent = [found.spent(dp, steps)["epsilon"] for steps in (0, 1, 15, 33)]
    assert spent[0] == 0
    assert spent == sorted(spent)
    assert 0.95 < spent[-1] <= 1.0
    assert mechanism(DP(epsilon=0.5), 103, 10, 3).noise_multiplier > found.noise_multiplier


def test_a_batch_is_no_larger_than_the_texts():
    assert mechanism(DP(epsilon=2.0), texts=8, batch=64, epochs=5) == mechanism(DP(epsilon=2.0), 8, 8, 5)


def test_without_opacus_it_is_said_what_to_install(monkeypatch):
    known = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "opacus" else known(name, *a))
    with pytest.raises(
        InputError, match=r"train\.dp needs the package opacus: python -m pip install 'midistill\[dp\]'"
    ):
        check_ready("train.dp")


def test_several_processes_are_refused(monkeypatch):
    from types import SimpleNamespace

    from midistill_tasks.distill.dp import accounting

    monkeypatch.setattr(accounting, "processes", lambda: SimpleNamespace(num_processes=2))
    with pytest.raises(InputError, match="leave out the launcher"):
        check_ready("train.dp")
