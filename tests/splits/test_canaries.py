"""The split of planted canaries: whose labels the coins are, and which refuses a folder that was changed."""

from __future__ import annotations

import hashlib
import json
import shutil

import pytest

from midistill_tasks.canaries.make import Wanted, make
from midistill_tasks.errors import InputError
from midistill_tasks.splits import SPLITS
from midistill_tasks.splits.canaries import read_canaries
from midistill_tasks.splits.documents import documents, text_id
from midistill_tasks.splits.options import TextOptions


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("planted") / "canaries"
    make(Wanted(n=120, repeats=(1, 3), seed=7), folder)
    return folder


def of(folder, **options):
    return documents(SPLITS["canaries"], TextOptions(own={"canaries": str(folder)}, **options))


def test_members_are_the_inserted_ones_once_each_and_the_group_goes_with_them(folder):
    planted, found = read_canaries(folder), of(folder)
    inserted = {canary.text: canary for canary in planted.inserted}
    held_out = {canary.text: canary for canary in planted.held_out}
    assert set(found.members) == set(inserted)
    assert set(found.nonmembers) | set(found.shots) == set(held_out)
    assert len(found.docs) == 120 - len(found.shots)
    for doc in found.docs:
        canary = (inserted if doc["label"] else held_out)[doc["text"]]
        assert (doc["name"], doc["group"]) == (canary.id, str(canary.repeats))
    assert found.counts["duplicates"] == found.counts["both_sides"] == 0


def test_its_coins_are_independent_and_shots_the_first_non_members_by_id(folder):
    found = of(folder, shots=3)
    by_id = sorted(text_id(canary.text) for canary in read_canaries(folder).held_out)
    assert [text_id(shot) for shot in found.shots] == by_id[:3]
    assert found.coins == {"independent_coins": True, "coins_after": by_id[2]}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda place: (place / "canaries.json").unlink(), "holds no canaries.json"),
        (lambda place: (place / "canaries.json").write_text("{}"), "canaries.json is not what was written there"),
        (lambda place: (place / "held_out.jsonl").unlink(), "held_out.jsonl is missing"),
        (lambda place: (place / "inserted.jsonl").open("a").write("\n"), "inserted.jsonl was changed"),
        (lambda place: swap(place), "inserted.jsonl was changed"),
        (lambda place: repeat(place), "does not belong to inserted.jsonl"),
        (lambda place: drop_and_forge(place), r"does not belong to inserted.jsonl \('canary-\d+' has 2 lines\)"),
    ],
)
def test_a_folder_that_was_changed_is_refused(folder, tmp_path, change, said):
    place = shutil.copytree(folder, tmp_path / "changed")
    change(place)
    with pytest.raises(InputError, match=said) as error:
        of(place)
    assert "midistill canaries make" in str(error.value)


def swap(place):
    """What somebody does who wants other labels."""
    names = ("inserted.jsonl", "held_out.jsonl")
    contents = [(place / name).read_bytes() for name in names]
    for name, content in zip(names, reversed(contents), strict=True):
        (place / name).write_bytes(content)


def repeat(place):
    plan = json.loads((place / "canaries.json").read_text())
    plan["repeats"] = [1, 2]
    (place / "canaries.json").write_text(json.dumps(plan))


def drop_and_forge(place):
    """One line less of a canary that has three, and a hash that fits."""
    lines = (place / "inserted.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    lines.remove(next(line for line in lines if '"group": 3' in line))
    (place / "inserted.jsonl").write_text("".join(lines), encoding="utf-8")
    plan = json.loads((place / "canaries.json").read_text())
    plan["files"]["inserted.jsonl"] = hashlib.sha256("".join(lines).encode()).hexdigest()
    (place / "canaries.json").write_text(json.dumps(plan))


def test_without_the_folder_it_says_which_option_to_give():
    with pytest.raises(InputError, match=r'needs your canaries: --metadata \'{"mia": {"canaries": "canaries/"}}\''):
        documents(SPLITS["canaries"], TextOptions())
