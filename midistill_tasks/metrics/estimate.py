"""Values with their uncertainty, as every room passes them on."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Z95 = 1.959963984540054
"""The two-sided 95 % quantile of the normal distribution."""


class Estimate(NamedTuple):
    """A value and its standard error, both NaN where the sample is too small for them."""

    value: float
    stderr: float


class Interval(NamedTuple):
    """A value with the limits of its interval; NaN limits where there is none."""

    value: float
    lower: float
    upper: float


def share(interval: Interval) -> Interval:
    """Of a figure that is a share, with limits that are cut at 0 and 1."""
    return Interval(interval.value, *(float(np.clip(limit, 0, 1)) for limit in interval[1:]))


def ratio(above: npt.NDArray[np.float64], below: npt.NDArray[np.float64]) -> Estimate:
    """Σ above / Σ below over independent units, [n] each, with the linearised error.

    The variance is n/(n−1) · Σ(above_i − r·below_i)² / (Σ below)² with r the ratio (Cochran, Sampling Techniques,
    chapter 6). NaN where the sum below is 0; the error is NaN for fewer than two units.
    """
    total = float(below.sum())
    if total == 0:
        return Estimate(math.nan, math.nan)
    value = float(above.sum()) / total
    count = len(above)
    if count < 2:
        return Estimate(value, math.nan)
    residuals = above - value * below
    return Estimate(value, math.sqrt(count / (count - 1) * float(residuals @ residuals)) / total)
