"""Bootstrap draws of cross-fitted decisions: documents are drawn again, and the rules chosen on them again."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from midistill_tasks.metrics.clusters import Counts, resample
from midistill_tasks.metrics.scored import BoolArray, FloatArray, IntArray

_AT_ONCE = 2**20
"""Places of texts in bootstrap draws that are worked on together."""


class Half(NamedTuple):
    """Some of the draws of one half.

    Attributes:
        rows: which draws, d of them.
        texts: the places of the half's texts, [h].
        times: how often each is drawn, [d, h].
        called: whether each of the models calls it a member, [M, d, h].
    """

    rows: slice
    texts: IntArray
    times: Counts
    called: BoolArray


def redrawn(labels: BoolArray, scores: FloatArray, codes: IntArray, fold: IntArray, draws: int) -> Iterator[Half]:
    """In each half the documents are drawn again by kind, the same ones for all models, and each model's rule is chosen
    again on its draw of the other half. The same draws each time; none where a half has no text.

    Args:
        labels: [n].
        scores: of each model, without NaN, [M, n].
        codes: documents, [n].
        fold: 0 or 1, see `thresholds.folds`, [n].
        draws: how many.
    """
    halves = [np.flatnonzero(fold == number) for number in (0, 1)]
    if not all(map(len, halves)):
        return

    def drawn(number: int) -> Iterator[Counts]:
        """How often each text of a half is drawn, [some of the draws, h]; the same ones whenever it is asked."""
        half = halves[number]
        documents = np.unique(codes[half], return_inverse=True)[1]
        for portion in resample(labels[half], documents, draws, np.random.default_rng(number)):
            yield from np.array_split(portion, math.ceil(portion.size / _AT_ONCE))

    def rules(number: int) -> FloatArray:
        """Of each model in each draw of a half, [M, draws, 2]."""
        half = halves[number]
        found = [[_best_rules(labels[half], one[half], times) for one in scores] for times in drawn(number)]
        return np.concatenate(found, axis=1)

    for number, half in enumerate(halves):
        chosen, start = rules(1 - number), 0
        for times in drawn(number):
            rows = slice(start, start := start + len(times))
            called = [
                sign * one[half] > threshold
                for one, (sign, threshold) in zip(scores, np.moveaxis(chosen[:, rows, :, None], 2, 1), strict=True)
            ]
            yield Half(rows, half, times, np.stack(called))


def majority(called: BoolArray) -> BoolArray:
    """What more than half of the voters say, [V, …] → […]."""
    decided: BoolArray = called.mean(axis=0) > 0.5
    return decided


def _best_rules(labels: BoolArray, scores: FloatArray, times: Counts) -> FloatArray:
    """`best_rule` of samples of the same texts, in which each stands so many times, [draws, n]: sign and threshold of
    each, [draws, 2]."""
    n_members, n_others = times[:, labels].sum(1), times[:, ~labels].sum(1)
    worth = times * np.where(labels, n_others[:, None], -n_members[:, None])
    (plain, its_gain), (turned, gain) = (_best_thresholds(sign * scores, times > 0, worth) for sign in (1, -1))
    return np.column_stack([np.where(gain > its_gain, -1, 1), np.where(gain > its_gain, turned, plain)])


def _best_thresholds(scores: FloatArray, there: BoolArray, worth: IntArray) -> tuple[FloatArray, IntArray]:
    """`best_threshold` of each sample and Youden's J times M·N there, [draws]; `there` [draws, n] are the texts that a
    sample has, `worth` [draws, n] what calling one of them a member adds to that."""
    order = np.argsort(-scores, kind="stable")
    falling, there = scores[order], there[:, order]
    gain = np.cumsum(worth[:, order], axis=1)
    # The first text of a sample at or after each place; beyond the last one there is none, and no threshold either.
    places = np.where(there, np.arange(len(falling)), len(falling))
    following = np.minimum.accumulate(places[:, ::-1], axis=1)[:, ::-1][:, 1:]
    ends = (falling[:-1] > falling[1:]) & (following < len(falling))
    gain = np.where(ends, gain[:, :-1], 0)
    rows, end = np.arange(len(gain)), np.argmax(gain, axis=1)
    best = gain[rows, end]
    # Where there is a gain the first text of that gain is one of the sample's, and so is the score above.
    above, below = falling[end], falling[np.minimum(following[rows, end], len(falling) - 1)]
    with np.errstate(invalid="ignore"):
        middle = below + (above - below) / 2
    threshold = np.where((below <= middle) & (middle < above), middle, below)
    return np.where(best > 0, threshold, np.inf), best
