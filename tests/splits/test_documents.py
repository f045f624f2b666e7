from __future__ import annotations

import hashlib
import time
from collections import Counter
from typing import Any

import datasets
import pytest

from midistill_tasks.errors import InputError
from midistill_tasks.splits.documents import prepare
from midistill_tasks.splits.options import TextOptions


def rows(members: list[str], nonmembers: list[str], **columns: list[Any]) -> datasets.Dataset:
    labels = [1] * len(members) + [0] * len(nonmembers)
    return datasets.Dataset.from_dict({"text": members + nonmembers, "label": labels, **columns})


def many(members: int, nonmembers: int) -> datasets.Dataset:
    return rows([f"member {i}" for i in range(members)], [f"non-member {i}" for i in range(nonmembers)])


def test_every_row_is_scored_or_counted() -> None:
    members = ["a", "a", "both", "  \n", "b", "c", "d", "e"]
    nonmembers = ["s1", "", "both", "both", "s2", "x", "y", "x"]
    prepared = prepare(rows(members, nonmembers), TextOptions())
    docs, shots, counts = prepared.docs, prepared.shots, prepared.counts
    assert shots == ("s1", "s2")
    assert counts == {
        "empty": 2,
        "duplicates": 3,
        "both_sides": 2,
        "shots": 2,
        "members": 5,
        "nonmembers": 2,
    }
    assert sum(counts.values()) == len(members) + len(nonmembers)
    assert {text for text, label in zip(docs["text"], docs["label"], strict=True) if label == 0} == {"x", "y"}
    assert {text for text, label in zip(docs["text"], docs["label"], strict=True) if label == 1} == set("abcde")


def test_any_first_documents_are_balanced_and_in_the_splits_order() -> None:
    docs = prepare(many(60, 40), TextOptions(n=20)).docs
    labels = docs["label"][:]
    assert len(labels) == 40
    for limit in range(1, 41):
        assert abs(2 * sum(labels[:limit]) - limit) <= 1
    for label in (0, 1):
        numbers = [int(text.split()[1]) for text, own in zip(docs["text"], labels, strict=True) if own == label]
        assert numbers == sorted(numbers)


def test_shots_are_the_first_non_members_whatever_is_drawn_and_never_scored() -> None:
    for options in (TextOptions(shots=3), TextOptions(shots=3, n=5, seed=9)):
        prepared = prepare(many(30, 30), options)
        docs, shots = prepared.docs, prepared.shots
        assert shots == ("non-member 0", "non-member 1", "non-member 2")
        assert not set(shots) & set(docs["text"])


def test_all_texts_are_scored_and_any_first_ones_hold_of_each_side_as_all_do() -> None:
    docs = prepare(many(30, 92), TextOptions()).docs
    labels = docs["label"][:]
    assert (sum(labels), len(labels)) == (30, 120)
    for limit in range(1, 121):
        assert abs(sum(labels[:limit]) - limit / 4) <= 1


def test_where_coins_chose_no_label_decides_which_texts_are_looked_at_for_shots() -> None:
    """Whoever is a shot is known by the ids up to the last shot: the coins of all later ones are still unknown."""
    for flipped in range(20):
        members = [f"text {i}" for i in range(40) if (i * 7 + flipped) % 3 == 0]
        nonmembers = [f"text {i}" for i in range(40) if (i * 7 + flipped) % 3]
        prepared = prepare(rows(members, nonmembers), TextOptions(shots=3), coins=True)
        ids = sorted(hashlib.sha256(text.encode()).hexdigest()[:16] for text in nonmembers)
        assert prepared.coins_after == ids[2]
        assert not set(prepared.shots) & set(prepared.docs["text"])
        assert [hashlib.sha256(text.encode()).hexdigest()[:16] for text in prepared.shots] == ids[:3]
    assert prepare(rows(members, nonmembers), TextOptions()).coins_after is None


def test_shots_are_taken_after_cleaning() -> None:
    shots = prepare(rows(["m", "both", "m2"], ["", "both", "s", "s", "x", "y"]), TextOptions(shots=1)).shots
    assert shots == ("s",)


def test_the_seed_draws_and_nothing_else_does() -> None:
    first = prepare(many(200, 200), TextOptions(n=20)).docs.to_dict()
    assert prepare(many(200, 200), TextOptions(n=20)).docs.to_dict() == first
    assert prepare(many(200, 200), TextOptions(n=20, seed=1)).docs.to_dict() != first


def test_each_text_is_as_likely_to_be_drawn_as_any_other() -> None:
    drawn = Counter(
        text for seed in range(100) for text in prepare(many(10, 12), TextOptions(n=5, seed=seed)).docs["text"]
    )
    assert len(drawn) == 20
    assert all(25 < times < 75 for times in drawn.values())  # 50 expected, standard deviation 5


def test_the_id_is_of_the_text_alone_and_the_cluster_defaults_to_it() -> None:
    docs = prepare(rows(["ä", "b"], ["s", "s2", "x", "y"]), TextOptions()).docs
    expected = [hashlib.sha256(text.encode("utf-8")).hexdigest()[:16] for text in docs["text"]]
    assert docs["id"][:] == docs["cluster"][:] == expected


def test_clusters_go_with_their_texts() -> None:
    docs = prepare(rows(["a", "b"], ["s", "s2", "x", "y"], cluster=["A", "A", "S", "S", "X", "X"]), TextOptions()).docs
    assert dict(zip(docs["text"], docs["cluster"], strict=True)) == {"a": "A", "b": "A", "x": "X", "y": "X"}


@pytest.mark.parametrize("kinds", [(0, 1), (False, True), ("0", "1"), (0.0, 1.0)])
def test_labels_of_every_common_kind_mean_the_same(kinds: tuple[Any, Any]) -> None:
    table = datasets.Dataset.from_dict({"text": list("abstxy"), "label": [kinds[i] for i in (1, 1, 0, 0, 0, 0)]})
    assert prepare(table, TextOptions()).docs["label"][:] == [1, 0, 1, 0]


@pytest.mark.parametrize("label", [2, -1, 0.5, None])
@pytest.mark.parametrize("other", [1, 0])
def test_any_other_label_is_named_by_its_row(label: Any, other: int) -> None:
    table = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [other, label]})
    with pytest.raises(InputError, match="mine, row 2: the label is"):
        prepare(table, TextOptions(), "mine")


@pytest.mark.parametrize("label", ["yes", "01", "1.0", ""])
def test_words_are_no_labels(label: str) -> None:
    with pytest.raises(InputError, match="row 1: the label is"):
        prepare(datasets.Dataset.from_dict({"text": ["a"], "label": [label]}), TextOptions())


def test_a_text_that_is_no_string_is_named_by_its_row() -> None:
    with pytest.raises(InputError, match="row 2: 'text' is None"):
        prepare(datasets.Dataset.from_dict({"text": ["a", None], "label": [0, 1]}), TextOptions())
    with pytest.raises(InputError, match="row 1: 'text' is 5"):
        prepare(datasets.Dataset.from_dict({"text": [5, 6], "label": [0, 1]}), TextOptions())


def test_a_missing_column_comes_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"no column 'label' \(did you mean 'labels'\?\)"):
        prepare(datasets.Dataset.from_dict({"text": ["a"], "labels": [0]}), TextOptions())


@pytest.mark.parametrize(
    ("members", "nonmembers", "what"),
    [
        (["a", "b"], [], r"no non-members \(label 0\)"),
        ([], ["a", "b"], r"no members \(label 1\)"),
        ([" "], ["a"], "no members"),
        (["a", "b"], ["b", "a"], r"no members .*left: 2 texts stand on both sides.*files that differ"),
        (["a", "b"], ["a"], r"no non-members .*left: 1 texts stand on both sides"),
    ],
)
def test_a_split_of_one_class_is_refused(members: list[str], nonmembers: list[str], what: str) -> None:
    with pytest.raises(InputError, match=what):
        prepare(rows(members, nonmembers), TextOptions())


def test_too_few_non_members_for_the_shots_are_refused() -> None:
    assert prepare(many(9, 4), TextOptions(shots=2)).counts["nonmembers"] == 2
    with pytest.raises(InputError, match="4 non-members, but 3 are taken out as shots"):
        prepare(many(9, 4), TextOptions(shots=3))


def test_more_texts_than_there_are_are_refused_with_the_most_there_is() -> None:
    with pytest.raises(InputError, match=r"'n' is 9.*10 members and 8 non-members.*at most 8"):
        prepare(many(10, 10), TextOptions(n=9))


def test_a_hundred_thousand_texts_take_seconds() -> None:
    start = time.perf_counter()
    prepared = prepare(many(50_000, 50_002), TextOptions(), coins=True)
    assert len(prepared.docs) == 100_000
    assert time.perf_counter() - start < 10
