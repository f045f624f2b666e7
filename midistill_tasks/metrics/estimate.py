"""Values with their uncertainty, as every room passes them on."""

from __future__ import annotations

from typing import NamedTuple

Z95 = 1.959963984540054
"""The two-sided 95 % quantile of the normal distribution: value ± Z95 · stderr is the interval meant everywhere."""


class Estimate(NamedTuple):
    """A value and its standard error, both NaN where the sample is too small for them."""

    value: float
    stderr: float


class Interval(NamedTuple):
    """A value with the limits of its interval; NaN limits where there is none."""

    value: float
    lower: float
    upper: float
