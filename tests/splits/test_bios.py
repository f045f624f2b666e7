from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline

from midistill_tasks.splits import bios
from midistill_tasks.splits.options import TextOptions

DIGEST = (
    "import hashlib; from midistill_tasks.splits import bios; rows = bios.load(); "
    "print(hashlib.sha256(repr((rows['text'][:], rows['label'][:])).encode()).hexdigest())"
)


@pytest.mark.slow
def test_another_process_with_other_hashes_locale_and_clock_makes_the_same_people() -> None:
    rows = bios.load()
    here = hashlib.sha256(repr((rows["text"][:], rows["label"][:])).encode()).hexdigest()
    for seed, zone in (("1", "Asia/Tokyo"), ("2", "America/Lima")):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "TZ": zone, "LC_ALL": "C"}
        there = subprocess.run(
            [sys.executable, "-c", DIGEST], capture_output=True, text=True, check=True, env=environment
        )
        assert there.stdout.strip() == here


def test_a_run_without_options_and_one_with_another_seed_have_the_same_members() -> None:
    assert bios.load(TextOptions(seed=7), None).to_dict() == bios.load().to_dict()


def test_members_are_the_texts_with_label_one() -> None:
    rows = bios.load()
    assert bios.members() == rows.filter(lambda row: row["label"] == 1)["text"][:]


def test_a_thousand_different_texts_of_about_a_hundred_tokens() -> None:
    texts = bios.biographies()
    assert len(set(texts)) == len(texts) == 1000
    words = [len(text.split()) for text in texts]
    assert min(words) >= 45
    assert max(words) <= 90


def test_membership_is_a_fair_coin_that_depends_on_nothing_else() -> None:
    labels = np.array(bios.load()["label"])
    assert abs(labels.mean() - 0.5) < 3 * 0.5 / np.sqrt(len(labels))
    both = np.mean(labels[1:] == labels[:-1])
    assert abs(both - 0.5) < 3 * 0.5 / np.sqrt(len(labels))


def test_a_bag_of_words_cannot_tell_members_from_non_members() -> None:
    rows = bios.load()
    labels = np.array(rows["label"])
    model = make_pipeline(CountVectorizer(min_df=2), LogisticRegression(max_iter=300))
    scores = cross_val_predict(model, rows["text"][:], labels, cv=5, method="predict_proba")[:, 1]
    error = np.sqrt((len(labels) + 1) / 12 / (labels.sum() * (1 - labels).sum()))  # of AUROC when nothing is there
    assert abs(roc_auc_score(labels, scores) - 0.5) < 3 * error


def test_no_detail_can_be_anybodys() -> None:
    for text in bios.biographies(200):
        assert "-555-" in text
        assert any(f"@example.{end}" in text for end in ("org", "com", "net"))
