from __future__ import annotations

import json
import math
import time
from pathlib import Path

import numpy as np
import pytest
from sklearn.model_selection import StratifiedKFold

from midistill_tasks.metrics.blind import blind_auroc, covariance_with_blind
from midistill_tasks.metrics.roc import auroc_covariance

DATA = Path(__file__).parents[3] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.exists(), reason=f"needs {DATA}, which is not part of the project")

WORDS = [f"word{i}" for i in range(300)]


def texts_of(rng: np.random.Generator, n: int, length: int = 60) -> list[str]:
    frequency = 1 / np.arange(1, 301)
    return [" ".join(rng.choice(WORDS, size=length, p=frequency / frequency.sum())) for _ in range(n)]


@needs_data
def test_wikimia_is_told_apart_without_a_model():
    rows = [json.loads(line) for line in (DATA / "wikimia" / "wikimia_128.jsonl").read_text("utf-8").splitlines()]
    value, stderr, _ = blind_auroc([row["input"] for row in rows], [row["label"] for row in rows])
    assert value > 0.985
    assert 0 < stderr < 0.02


def test_exchangeable_texts_stay_at_chance_within_the_error():
    rng = np.random.default_rng(0)
    texts = texts_of(rng, 100)
    runs = np.array([blind_auroc(texts, rng.permutation(np.arange(100) % 2))[:2] for _ in range(80)])
    assert abs(runs[:, 0].mean() - 0.5) < 3 * runs[:, 0].std() / math.sqrt(80)
    assert np.mean(np.abs(runs[:, 0] - 0.5) < 1.96 * runs[:, 1]) > 0.9


def test_passages_of_one_document_do_not_tell_on_each_other():
    # Each document has a word of its own, and is a member as a whole: only a split through documents would find that.
    rng = np.random.default_rng(1)
    labels = np.repeat(rng.permutation(np.arange(60) % 2), 4)
    clusters = [f"doc{i // 4}" for i in range(240)]
    texts = [f"{text} {name} {name}x" for text, name in zip(texts_of(rng, 240), clusters, strict=True)]
    value, stderr, _ = blind_auroc(texts, labels, clusters)
    assert abs(value - 0.5) < 3 * stderr
    assert blind_auroc(texts, labels)[0] > 0.7


def test_a_fold_with_one_document_of_a_class_is_not_judged_and_the_rest_has_an_error():
    # Of documents of very unequal length, which a fold can have alone.
    rng = np.random.default_rng(3)
    sizes = np.ceil(20 * np.exp(rng.normal(size=30))).astype(int)
    labels = np.repeat(np.arange(30) % 2, sizes)
    clusters = np.repeat([f"doc{number}" for number in range(30)], sizes).tolist()
    value, stderr, ranks = blind_auroc(texts_of(rng, len(labels), 20), labels, clusters)
    assert 0.2 < value < 0.8
    assert stderr > 0
    alone = {name for name in clusters if math.isnan(ranks[clusters.index(name)])}
    assert 0 < len(alone) < 30


def test_a_planted_word_is_found():
    rng = np.random.default_rng(2)
    labels = np.arange(100) % 2
    texts = [f"{text} 2023" if label else text for text, label in zip(texts_of(rng, 100), labels, strict=True)]
    value, stderr, _ = blind_auroc(texts, labels)
    assert value > 0.97
    assert stderr > 0


def test_the_figure_is_the_mean_of_the_folds():
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(3)
    texts, labels = texts_of(rng, 60), rng.permutation(np.arange(60) % 2)
    words = CountVectorizer(binary=True, min_df=2).fit_transform(texts)
    areas = []
    for train, test in StratifiedKFold(5, shuffle=True, random_state=7).split(texts, labels):
        model = LogisticRegression(solver="liblinear").fit(words[train], labels[train])
        areas.append(roc_auc_score(labels[test], model.decision_function(words[test])))
    found = blind_auroc(texts, labels, seed=7)
    assert found.value == pytest.approx(np.mean(areas))
    assert [found.ranks[labels == side].mean() for side in (0, 1)] == pytest.approx([np.mean(areas)] * 2)


def test_a_text_s_rank_is_the_share_of_the_other_class_of_its_fold_that_its_words_are_in_order_with():
    rng = np.random.default_rng(6)
    labels = rng.permutation(np.arange(100) % 2)
    texts = [f"{text} 2023" if label else text for text, label in zip(texts_of(rng, 100), labels, strict=True)]
    texts[np.flatnonzero(labels)[0]] = "word1 word2"  # a member without the word
    ranks = blind_auroc(texts, labels).ranks
    assert ranks[np.flatnonzero(labels)[0]] == ranks.min() < 0.7
    assert np.median(ranks) == 1
    assert ranks * 20 == pytest.approx(np.round(ranks * 20)), "a fold has ten texts of each class"


def test_the_covariance_with_the_words_is_delong_s_of_two_attacks():
    rng = np.random.default_rng(7)
    labels = rng.permutation(np.arange(80) % 2)
    first, second, third = (rng.normal(size=80) + labels for _ in range(3))
    second += first
    component = np.array(
        [
            np.mean((second[n] > second[labels == 0]) if labels[n] else (second[n] < second[labels == 1]))
            for n in range(80)
        ]
    )
    clusters = [f"doc{n // 2}" for n in range(80)]
    for names in (None, clusters):
        expected = auroc_covariance(labels, [first, third, second], names).covariance
        found = covariance_with_blind(labels, [first, third], component, names)
        assert found == pytest.approx((expected[0, 2] + expected[1, 2]) / 2)
    assert math.isnan(covariance_with_blind(labels, [first], np.full(80, math.nan)))


@pytest.mark.parametrize("n", [0, 2, 18])
def test_too_few_texts_of_a_class_are_nan_and_said(n, caplog):
    value, stderr, _ = blind_auroc(texts_of(np.random.default_rng(4), n), np.arange(n) % 2)
    assert math.isnan(value)
    assert math.isnan(stderr)
    assert "needs 10 texts" in caplog.text


def test_texts_without_words_are_nan():
    assert math.isnan(blind_auroc(["?"] * 40, np.arange(40) % 2)[0])


def test_two_thousand_texts_take_seconds():
    rng = np.random.default_rng(5)
    texts = texts_of(rng, 2000, 128)
    start = time.perf_counter()
    blind_auroc(texts, np.arange(2000) % 2)
    assert time.perf_counter() - start < 10  # 1.1 s alone on two cores; room for a busy machine
