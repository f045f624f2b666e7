"""The order of a study's parts, whatever the steps."""

from __future__ import annotations

import random

import pytest

from midistill_tasks.errors import InputError
from midistill_tasks.study.graph import Part, all_needs, in_order

PARTS = [
    Part("teacher", step="data"),
    Part("teacher", ("data",), "evaluate"),
    Part("a/0", ("train:a/0",), "evaluate"),
    Part("a/1", ("train:a/1",), "evaluate"),
    Part("teacher", ("evaluate:teacher",), "select"),
    Part("a/0", ("data", "select"), "train"),
    Part("a/1", ("data", "select"), "train"),
]
STEPS = ("data", "evaluate", "select", "train", "idle")


def test_a_model_is_finished_before_the_next_is_begun():
    assert [part.key for part in in_order(PARTS, STEPS)] == [
        "data:teacher", "evaluate:teacher", "select:teacher",
        "train:a/0", "evaluate:a/0", "train:a/1", "evaluate:a/1",
    ]  # fmt: skip


@pytest.mark.parametrize("seed", range(20))
def test_whatever_the_order_of_the_steps_each_part_comes_after_its_needs(seed):
    shuffled = random.Random(seed).sample(PARTS, len(PARTS))
    order = in_order(shuffled, STEPS)
    assert sorted(part.key for part in order) == sorted(part.key for part in PARTS)
    for number, part in enumerate(order):
        assert set(all_needs(part, PARTS)) <= set(order[:number])


def test_needs_of_needs_count_and_a_step_without_parts_keeps_nobody_waiting():
    student = Part("a/0", ("idle", "train:a/0"), "evaluate")
    assert [part.key for part in all_needs(student, PARTS)] == [
        "data:teacher", "evaluate:teacher", "select:teacher", "train:a/0",
    ]  # fmt: skip
    assert in_order([Part("x", ("idle",), "train")], STEPS) == [Part("x", ("idle",), "train")]


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ([Part("a", ("trian",), "train")], r"train:a needs 'trian', which no step of this study is \(did you mean"),
        ([Part("a", ("train:b",), "evaluate"), Part("a", step="train")], "needs 'train:b'"),
        ([Part("a", step="train"), Part("a", step="train")], "'train' has two parts 'a'"),
        (
            [Part("a", ("train:b",), "train"), Part("b", ("train:a",), "train")],
            "wait for each other: train:a needs train:b needs train:a",
        ),
    ],
)
def test_parts_that_cannot_be_ordered_are_named(parts, said):
    with pytest.raises(InputError, match=said):
        in_order(parts, STEPS)
