"""What scoring hands to the attacks: a text seen in some way (a view) and the statistics of its tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class View:
    """One way of showing a text to a model; equal views of equal texts cost one forward in a run.

    Attributes:
        name: the key under which an attack finds the statistics.
        model: the model under evaluation, or the reference model of the run.
        after_shots: whether the text follows the ReCaLL prefix P (non-member shots).
    """

    name: str
    model: Literal["target", "reference"] = "target"
    after_shots: bool = False


TEXT = View("text")
REFERENCE = View("reference", model="reference")
AFTER_SHOTS = View("after_shots", after_shots=True)


@dataclass(frozen=True, eq=False)
class TokenStats:
    """Statistics of the n scored tokens of one view, each an array of shape [n].

    Attributes:
        logprob: float32, ℓ_t = log p(x_t | x_<t), in nats.
        mean: float32, μ_t = Σ_v p(v) log p(v), in nats: the negative entropy of the next-token distribution.
        std: float32, σ_t, the standard deviation of log p(v) under p, with a floor of 1e-3 (variance 1e-6).
        greedy: bool, whether x_t was the arg-max.
        n_chars: how many leading characters of the text were scored: fewer than the text has where it was cut.
        truncated: whether the text was cut to the model's length.
    """

    logprob: FloatArray
    mean: FloatArray
    std: FloatArray
    greedy: BoolArray
    n_chars: int
    truncated: bool = False

    def __len__(self) -> int:
        return len(self.logprob)

    def __repr__(self) -> str:
        mean = f"{float(self.logprob.mean()):.4f}" if len(self) else "nan"
        return f"TokenStats(tokens={len(self)}, mean_logprob={mean})"


@dataclass(frozen=True)
class Unscored:
    """Stands in for TokenStats where a view has none.

    Attributes:
        reason: one clause for people.
        whole_task: whether it holds for every text on every rank (a backend without token statistics, a missing
            reference model), so that the task reports nothing instead of NaN.
    """

    reason: str
    whole_task: bool = False
