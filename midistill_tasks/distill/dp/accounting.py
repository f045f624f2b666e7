"""How much noise a training needs for what it promises, and what it has spent: Opacus' PRV accountant.

Each step takes every text with a chance of its own (Poisson sampling), clips the gradient of each to C and adds noise
of standard deviation σ·C to their sum. The PRV accountant (Gopi, Lee and Wutschitz 2021, arXiv 2106.02848) bounds ε of
all steps together from above.
"""

from __future__ import annotations

import importlib.util
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from midistill_tasks.errors import InputError
from midistill_tasks.processes import processes
from midistill_tasks.recipes.schema import DP


@dataclass(frozen=True)
class Mechanism:
    """A training as the accountant knows it.

    Attributes:
        noise_multiplier: σ.
        sample_rate: chance of a text to be in a step.
        steps: of the whole training.
        batch: texts that a step is expected to take, by which its noisy sum is divided.
    """

    noise_multiplier: float
    sample_rate: float
    steps: int
    batch: int

    def spent(self, dp: DP, steps: int) -> dict[str, Any]:
        """ε after so many steps at the promised δ, an upper bound, with what it follows from."""
        return {
            "epsilon": _epsilon(self.noise_multiplier, self.sample_rate, steps, dp.delta) if steps else 0.0,
            "delta": dp.delta,
            "promised_epsilon": dp.epsilon,
            "max_grad_norm": dp.max_grad_norm,
            "noise_multiplier": self.noise_multiplier,
            "sample_rate": self.sample_rate,
            "steps": steps,
            "accountant": "PRV",
            "unit": "one text, added or removed",
        }


def mechanism(dp: DP, texts: int, batch: int, epochs: float) -> Mechanism:
    """The least noise under which `epochs` over so many texts, `batch` a step, keep the promise."""
    batch = min(batch, texts)
    steps, rate = math.ceil(epochs * math.ceil(texts / batch)), batch / texts
    return Mechanism(_noise_multiplier(dp.epsilon, dp.delta, rate, steps), rate, steps, batch)


def check_ready(key: str) -> None:
    """Looks, before any work, at what the training of the section `key` needs.

    Raises:
        InputError: Opacus is not installed, or there are several processes.
    """
    if importlib.util.find_spec("opacus") is None:
        raise InputError(f"{key} needs the package opacus: python -m pip install 'midistill[dp]'")
    if processes().num_processes > 1:
        raise InputError(f"{key} trains in one process, whose noise is counted: leave out the launcher")


@cache
def _noise_multiplier(epsilon: float, delta: float, rate: float, steps: int) -> float:
    from opacus.accountants.utils import get_noise_multiplier

    try:
        with _quiet():
            return float(
                get_noise_multiplier(
                    target_epsilon=epsilon, target_delta=delta, sample_rate=rate, steps=steps, accountant="prv"
                )
            )
    except (ValueError, RuntimeError, MemoryError) as error:
        raise InputError(
            f"dp: no noise is found for epsilon {epsilon:g} and delta {delta:g} over {steps} steps ({error}): give"
            " another epsilon, usually 0.1 to 100"
        ) from error


@cache
def _epsilon(noise_multiplier: float, rate: float, steps: int, delta: float) -> float:
    from opacus.accountants import PRVAccountant

    accountant = PRVAccountant()
    accountant.history = [(noise_multiplier, rate, steps)]
    with _quiet():
        return float(accountant.get_epsilon(delta))


@contextmanager
def _quiet() -> Iterator[None]:
    """Opacus bounds the domain of its PRVs by Rényi orders, of which it says that the largest was the best, and takes
    the logarithm of 0 at a sample rate of 1: neither changes the bound."""
    with warnings.catch_warnings(), np.errstate(divide="ignore"):
        warnings.simplefilter("ignore")
        yield
