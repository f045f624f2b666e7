from __future__ import annotations

import json
from pathlib import Path

import pytest

from midistill_tasks.distill.data import encode, kept_members, load_texts, text_id
from midistill_tasks.errors import InputError
from midistill_tasks.recipes.schema import Data, Interventions
from midistill_tasks.splits import SPLITS
from midistill_tasks.splits.documents import prepare
from midistill_tasks.splits.options import TextOptions
from midistill_tasks.splits.rows import load_split

MEMBERS = [f"member number {number}" for number in range(20)]
OTHERS = [f"other number {number}" for number in range(6)]


def write(path: Path, texts: list[str]) -> str:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return str(path)


@pytest.fixture
def selection(tmp_path: Path) -> str:
    """A selection by which the first 8 of MEMBERS are vulnerable."""
    (tmp_path / "selection.json").write_text("{}")
    for name, texts in (("vulnerable", MEMBERS[:8]), ("non_vulnerable", MEMBERS[8:])):
        lines = (json.dumps({"id": text_id(text), "text": text}) + "\n" for text in texts)
        (tmp_path / f"{name}.jsonl").write_text("".join(lines))
    return str(tmp_path)


def test_ids_are_the_harness_tasks_ids():
    docs = prepare(load_split(SPLITS["bios"], {}, TextOptions()), TextOptions(), "bios").docs
    assert [text_id(doc["text"]) for doc in docs] == docs["id"]


def test_with_n_the_texts_are_those_that_the_tasks_score():
    texts = load_texts(Data(split="bios", n=20, seed=3))
    docs = prepare(load_split(SPLITS["bios"], {}, TextOptions()), TextOptions(n=20, seed=3), "bios").docs
    assert texts.members == [doc["text"] for doc in docs if doc["label"] == 1]
    assert texts.nonmembers == [doc["text"] for doc in docs if doc["label"] == 0]


def test_without_n_all_members_are_trained_on_even_where_the_tasks_balance(tmp_path):
    members, others = write(tmp_path / "m.jsonl", MEMBERS), write(tmp_path / "n.jsonl", [*OTHERS, MEMBERS[0]])
    texts = load_texts(Data(members=members, nonmembers=others))
    assert texts.members == MEMBERS[1:]  # the first stands on both sides
    assert len(texts.nonmembers) == 4  # two are the harness's shots


def test_members_alone_are_enough(tmp_path):
    texts = load_texts(Data(members=write(tmp_path / "m.jsonl", [*MEMBERS, " ", MEMBERS[0]])))
    assert (texts.members, texts.nonmembers, texts.counts) == (MEMBERS, [], {"left_out": 2})


def test_non_vulnerable_keeps_the_others(selection):
    kept = kept_members(MEMBERS, Interventions(selection=selection, non_vulnerable=True), seed=0)
    assert kept == list(range(8, 20))


def test_random_drop_drops_as_many_but_others(selection):
    interventions = Interventions(selection=selection, random_drop=True)
    kept = kept_members(MEMBERS, interventions, seed=0)
    assert len(kept) == len(set(kept)) == 12
    assert kept == kept_members(MEMBERS, interventions, seed=0) != kept_members(MEMBERS, interventions, seed=1)
    assert set(kept) & set(range(8))


@pytest.mark.parametrize(("share", "size"), [(0.0, 8), (0.05, 9), (0.5, 14), (1.0, 20)])
def test_vulnerable_plus_adds_a_share_of_the_others(selection, share, size):
    kept = kept_members(MEMBERS, Interventions(selection=selection, vulnerable_plus=share), seed=0)
    assert len(kept) == size
    assert set(range(8)) <= set(kept)


def test_a_selection_of_other_members_is_refused(selection):
    with pytest.raises(InputError, match=r"8 are not in the data, and 1 of the data's 13.*run lm_eval"):
        kept_members([*MEMBERS[8:], "another text"], Interventions(selection=selection, random_drop=True), seed=0)


def test_a_selection_of_fewer_members_says_how_many_to_draw(selection):
    with pytest.raises(InputError, match=r"1 of the data's 21 are not in it: set data\.n: 20 and"):
        kept_members([*MEMBERS, "another text"], Interventions(selection=selection, random_drop=True), seed=0)


def test_one_token_texts_are_left_out_and_long_ones_cut(tiny):
    encoded = encode(["w1 w2 w3", "w1", "", "w4 w5 w6 w7 w8"], tiny.tokenizer(), max_length=4)
    assert encoded.positions == [0, 3]
    assert [len(ids) for ids in encoded.ids] == [3, 4]
    assert encoded.cut == 1


def test_nothing_to_predict_is_an_error(tiny):
    with pytest.raises(InputError, match="none of the 2 texts has two tokens"):
        encode(["w1", "w2"], tiny.tokenizer(), max_length=4)
