"""The blind baseline: how well members are told from non-members by their words alone, without any model."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from midistill_tasks.errors import warn_once
from midistill_tasks.metrics.roc import auroc, delong_stderr
from midistill_tasks.metrics.scored import BoolArray, IntArray

FOLDS = 5
MIN_PER_CLASS = 2 * FOLDS
"""Texts (documents, where clusters repeat) that a class must have: a fold's error needs two."""


def blind_auroc(
    texts: Sequence[str], labels: npt.ArrayLike, clusters: Sequence[str] | None = None, seed: int = 0
) -> tuple[float, float]:
    """AUROC of a bag-of-words classifier and its standard error, cross-validated in five stratified folds.

    Logistic regression on which words occur (Das, Zhang and Tramèr, "Blind baselines beat membership inference
    attacks", arXiv 2406.16201). Clusters stay in one fold. Above 0.5, the split shows a shift between its classes that
    no attack should be credited for.

    The AUROC is taken within each fold and averaged. Scores pooled over folds would be biased below 0.5 where there is
    nothing to find: a fold with more members leaves fewer for training, so its scores are all a little lower.
    The folds are not independent: at the null each pair of texts acts twice, either judged by what was learnt from the
    other, so that DeLong's variance over the number of folds is too small by up to a half. Hence the variance of the
    mean is (1/K + n_test/n_train) times that of a fold: Nadeau and Bengio, Machine Learning 52:239 (2003).

    Args:
        texts: [n]
        labels: [n], true = member
        clusters: [n], the document of each text, or None where texts are independent
        seed: of the folds

    Returns:
        NaN, NaN, with one warning, where a class has fewer than ten texts or clusters, or no word occurs in two texts.
    """
    from sklearn.feature_extraction.text import CountVectorizer

    member = np.asarray(labels).astype(np.bool_)
    names = np.arange(len(texts)).astype(str) if clusters is None else np.asarray(clusters)
    if min(len(np.unique(names[member])), len(np.unique(names[~member]))) < MIN_PER_CLASS:
        return _undefined(f"it needs {MIN_PER_CLASS} texts (documents, where clusters repeat) of each class")
    try:
        # The vocabulary is made without labels, so it may see the judged texts.
        words = CountVectorizer(binary=True, min_df=2).fit_transform(texts)
    except ValueError:  # scikit-learn's answer to an empty vocabulary
        return _undefined("no word occurs in two texts")
    folds = [_judge(words, member, names, train, test) for train, test in _splits(member, names, seed)]
    judged = [fold for fold in folds if fold is not None]
    if not judged:
        return _undefined("no fold has both classes to learn from and to judge")
    values, errors = np.array(judged).T
    inflation = 1 / len(judged) + 1 / (FOLDS - 1)
    return float(values.mean()), math.sqrt(inflation * float(np.mean(errors**2)))


def _undefined(reason: str) -> tuple[float, float]:
    warn_once(f"blind_auroc is NaN: {reason}")
    return math.nan, math.nan


def _splits(member: BoolArray, names: npt.NDArray[np.str_], seed: int) -> Iterator[tuple[IntArray, IntArray]]:
    """Rows to train on and rows to judge, fold by fold."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    if len(np.unique(names)) == len(names):
        yield from StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(names, member)
    else:
        yield from StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed).split(names, member, groups=names)


def _judge(
    words: Any, member: BoolArray, names: npt.NDArray[np.str_], train: IntArray, test: IntArray
) -> tuple[float, float] | None:
    """AUROC and its error on one fold; None where clusters are so unequal that a class is missing."""
    from sklearn.linear_model import LogisticRegression

    if len(np.unique(member[train])) < 2 or len(np.unique(member[test])) < 2:
        return None
    classifier = LogisticRegression(solver="liblinear").fit(words[train], member[train])
    scores = classifier.decision_function(words[test])
    return auroc(member[test], scores), delong_stderr(member[test], scores, names[test].tolist())
