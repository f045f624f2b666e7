"""Scores of an attack that learns from labels: what an attacker who knows the side of other texts reaches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from midistill_tasks.metrics.roc import auroc
from midistill_tasks.metrics.scored import BoolArray, FloatArray, Scored, columns
from midistill_tasks.metrics.thresholds import folds

FEWEST = 10
"""Texts of each class that a fold must have to learn from."""
VARIANCE = 2.0
"""By how much DeLong's variance of such an AUROC is multiplied. Where there is nothing to learn, what is judged in one
fold and learnt from the other is the same chance difference twice, so that half of the texts say nothing new. Where
there is much to learn this is too much, never too little. `tests/campaigns/coverage.py` measures it.

Decisions by cross-fitted thresholds are learnt so, too: their AUROC has up to 1.4 times DeLong's error."""


class Learnt(float):
    """A score that was learnt from labels, on its way to the figures, so that their errors allow for it."""


def variance_of(items: Sequence[Scored]) -> float:
    """Factor on DeLong's variance of the AUROC of these scores: `VARIANCE` where they are `Learnt`, else 1."""
    return VARIANCE if items and isinstance(items[0].score, Learnt) else 1.0


def crossfit_choice(scores: npt.ArrayLike, items: Sequence[Scored]) -> FloatArray:
    """Score of each text, [n], by that of V variants, and in that direction, which tells the other fold's sides best.

    Args:
        scores: [V, n]
        items: labels, ids and clusters, [n].

    Returns:
        Ranks within the fold, as `crossfit_scores`; NaN where a variant has none, or a fold lacks a class.
    """
    return crossfit_pick(scores, items)[0]


def crossfit_pick(scores: npt.ArrayLike, items: Sequence[Scored]) -> tuple[FloatArray, tuple[int, ...]]:
    """As `crossfit_choice`, and beside it which variant each of the two folds is judged by; none where none could be
    chosen."""
    table = np.asarray(scores, dtype=np.float64)
    labels, fold = columns(items)[0], folds(items)
    known, chosen, picked = ~np.isnan(table).any(axis=0), np.full(len(items), np.nan), []
    for number in (0, 1):
        own, other = known & (fold == number), known & (fold != number)
        areas = np.array([auroc(labels[other], variant[other]) for variant in table])
        if not len(areas) or np.isnan(areas).any():
            return np.full(len(items), np.nan), ()
        best = int(np.argmax(np.abs(areas - 0.5)))
        chosen[own] = _ranks(table[best][own] if areas[best] >= 0.5 else -table[best][own])
        picked.append(best)
    return chosen, tuple(picked)


def pick_strongest(
    scores: npt.ArrayLike, names: Sequence[str], items: Sequence[Scored]
) -> tuple[FloatArray, tuple[str, ...]]:
    """Score of each text by the attack that is strongest on the other fold, and that attack's name for each fold.

    Args:
        scores: [A, n], NaN where an attack has none. One that has none for more than a tenth of the texts takes no
            part; a text that one of the others has none for is not scored.
        names: of the A attacks.
        items: labels, ids and clusters, [n].

    Returns:
        As `crossfit_pick`; ranks of two folds are not to be compared, see `metrics.halves`.
    """
    table = np.asarray(scores, dtype=np.float64).reshape(len(names), len(items))
    able = np.flatnonzero(np.isnan(table).mean(axis=1) <= 0.1)
    chosen, picked = crossfit_pick(table[able], items)
    return chosen, tuple(names[able[index]] for index in picked)


def crossfit_scores(features: npt.ArrayLike, items: Sequence[Scored]) -> FloatArray:
    """Score of each text, [n], by a logistic regression that was learnt on the fold (`folds`) it is not in.

    A score is the text's rank within its fold, over the fold's size: what two regressions give is not to be compared,
    and a constant between them would push the AUROC below 0.5 where there is nothing to find. No label of the fold
    takes part in that.

    Args:
        features: [n, d]. Columns without any number are left out, ±inf is as far as the column goes, and a text that
            lacks a feature which others have is not scored.
        items: labels, ids and clusters, [n]; their scores are not read.

    Returns:
        NaN where a text has no score; NaN throughout with fewer than `FEWEST` texts of a class in a fold.
    """
    table, known = _complete(np.asarray(features, dtype=np.float64).reshape(len(items), -1))
    labels, fold = columns(items)[0], folds(items)
    scores = np.full(len(items), np.nan)
    halves = [known & (fold == number) for number in (0, 1)]
    if not table.shape[1] or any(min(labels[half].sum(), (~labels[half]).sum()) < FEWEST for half in halves):
        return scores
    for own, other in (halves, halves[::-1]):
        scores[own] = _learnt(table[other], labels[other], table[own])
    return scores


def _complete(features: FloatArray) -> tuple[FloatArray, BoolArray]:
    """Columns that any text has, finite, and which texts have all of them."""
    used = features[:, ~np.isnan(features).all(axis=0)]
    for column in used.T:
        finite = column[np.isfinite(column)]
        low, high = (finite.min(), finite.max()) if len(finite) else (0.0, 0.0)
        np.clip(column, low, high, out=column)
    return used, np.asarray(~np.isnan(used).any(axis=1), dtype=np.bool_)


def _learnt(train: FloatArray, labels: BoolArray, judged: FloatArray) -> FloatArray:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(train, labels)
    return _ranks(model.decision_function(judged))


def _ranks(values: FloatArray) -> FloatArray:
    return np.asarray((rankdata(values) - 0.5) / len(values), dtype=np.float64)
