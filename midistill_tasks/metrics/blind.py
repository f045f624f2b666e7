"""The blind baseline: how well members are told from non-members by their words alone, without any model."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from midistill_tasks.errors import warn_once
from midistill_tasks.metrics.clusters import two_sample_covariance
from midistill_tasks.metrics.estimate import Z95, Estimate
from midistill_tasks.metrics.roc import auroc_components, complete, delong_stderr
from midistill_tasks.metrics.scored import BoolArray, FloatArray, IntArray

FOLDS = 5
MIN_PER_CLASS = 2 * FOLDS
"""Texts (documents, where clusters repeat) that a class must have: a fold's error needs two."""


class Blind(NamedTuple):
    """The baseline on one split.

    Attributes:
        value: its AUROC.
        stderr: of the value.
        ranks: [n], the share of the other class in a text's fold that its words rank it rightly against, ties half;
            NaN in a fold that was not judged. An attack is paired with the baseline by them, text by text.
    """

    value: float
    stderr: float
    ranks: FloatArray


def blind_auroc(
    texts: Sequence[str], labels: npt.ArrayLike, clusters: Sequence[str] | None = None, seed: int = 0
) -> Blind:
    """AUROC of a bag-of-words classifier and its standard error, cross-validated in five stratified folds.

    Logistic regression on which words occur (Das, Zhang and Tramèr, "Blind baselines beat membership inference
    attacks", arXiv 2406.16201). Clusters stay in one fold. Above 0.5, the split shows a shift between its classes that
    no attack should be credited for.

    The AUROC is taken within each fold and averaged. Scores pooled over folds would be biased below 0.5 where there is
    nothing to find: a fold with more members leaves fewer for training, so its scores are all a little lower.
    The folds are not independent: at the null each pair of texts acts twice, either judged by what was learnt from the
    other, so that DeLong's variance over the number of folds is too small by up to a half. Hence the variance of the
    mean is (1/K + n_test/n_train) times that of a fold: Nadeau and Bengio, Machine Learning 52:239 (2003). A fold in
    which a class has one document only has no error, and is not judged.

    Args:
        texts: [n]
        labels: [n], true = member
        clusters: [n], the document of each text, or None where texts are independent
        seed: of the folds

    Returns:
        NaN throughout, with one warning, where a class has fewer than ten texts or clusters, or no word is in two.
    """
    from sklearn.feature_extraction.text import CountVectorizer

    member = np.asarray(labels).astype(np.bool_)
    names = np.arange(len(texts)).astype(str) if clusters is None else np.asarray(clusters)
    if min(len(np.unique(names[member])), len(np.unique(names[~member]))) < MIN_PER_CLASS:
        return _undefined(
            len(texts), f"it needs {MIN_PER_CLASS} texts (documents, where clusters repeat) of each class"
        )
    try:
        # The vocabulary is made without labels, so it may see the judged texts.
        words = CountVectorizer(binary=True, min_df=2).fit_transform(texts)
    except ValueError:  # scikit-learn's answer to an empty vocabulary
        return _undefined(len(texts), "no word occurs in two texts")
    ranks, values, errors = np.full(len(texts), math.nan), [], []
    for train, test in _splits(member, names, seed):
        scores = _judge(words, member, train, test)
        error = math.nan if scores is None else delong_stderr(member[test], scores, names[test].tolist())
        if scores is not None and not math.isnan(error):
            area, ranks[test] = auroc_components(member[test], scores)
            values.append(area)
            errors.append(error)
    if not values:
        return _undefined(len(texts), "no fold has two documents of each class to judge")
    inflation = 1 / len(values) + 1 / (FOLDS - 1)
    return Blind(float(np.mean(values)), math.sqrt(inflation * float(np.mean(np.square(errors)))), ranks)


def shifted(blind: Estimate) -> bool:
    """Whether words alone tell members from non-members beyond the 95 % error; not where there is no baseline."""
    return blind.value - Z95 * blind.stderr > 0.5


def covariance_with_blind(
    labels: npt.ArrayLike, scores: Sequence[npt.ArrayLike], ranks: npt.ArrayLike, clusters: Sequence[str] | None = None
) -> float:
    """Covariance over texts of the mean AUROC of the scores, each [n], with the baseline of these ranks, [n].

    DeLong's, as for two attacks: what the words' classifiers learnt is taken as given. A text that lacks a score or a
    rank is dropped. NaN without both classes, or where one lies in fewer than two clusters.
    """
    member, (*columns, ranked), codes = complete(labels, [*scores, ranks], clusters)
    if len(np.unique(member)) < 2:
        return math.nan
    components = np.stack([np.mean([auroc_components(member, column)[1] for column in columns], axis=0), ranked])
    for side in (member, ~member):
        components[:, side] -= components[:, side].mean(axis=1, keepdims=True)
    return float(two_sample_covariance(components, member, codes)[0, 1])


def _undefined(n: int, reason: str) -> Blind:
    warn_once(f"blind_auroc is NaN: {reason}")
    return Blind(math.nan, math.nan, np.full(n, math.nan))


def _splits(member: BoolArray, names: npt.NDArray[np.str_], seed: int) -> Iterator[tuple[IntArray, IntArray]]:
    """Rows to train on and rows to judge, fold by fold."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    if len(np.unique(names)) == len(names):
        yield from StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(names, member)
    else:
        yield from StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed).split(names, member, groups=names)


def _judge(words: Any, member: BoolArray, train: IntArray, test: IntArray) -> FloatArray | None:
    """Scores of one fold; None where clusters are so unequal that a class is missing."""
    from sklearn.linear_model import LogisticRegression

    if len(np.unique(member[train])) < 2 or len(np.unique(member[test])) < 2:
        return None
    classifier = LogisticRegression(solver="liblinear").fit(words[train], member[train])
    scores: FloatArray = classifier.decision_function(words[test])
    return scores
