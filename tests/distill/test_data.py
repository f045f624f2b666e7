from __future__ import annotations

import json
from pathlib import Path

import pytest

from midistill_tasks.distill.data import encode, load_texts, other_texts, text_id
from midistill_tasks.errors import InputError
from midistill_tasks.recipes.schema import Data
from midistill_tasks.splits import SPLITS
from midistill_tasks.splits.documents import prepare
from midistill_tasks.splits.options import TextOptions
from midistill_tasks.splits.rows import load_split

MEMBERS = [f"member number {number}" for number in range(20)]
OTHERS = [f"other number {number}" for number in range(6)]


def write(path: Path, texts: list[str]) -> str:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return str(path)


def test_ids_are_the_harness_tasks_ids():
    docs = prepare(load_split(SPLITS["bios"], {}, TextOptions()), TextOptions(), "bios").docs
    assert [text_id(doc["text"]) for doc in docs] == docs["id"]


def test_with_n_the_texts_are_those_that_the_tasks_score():
    texts = load_texts(Data(split="bios", n=20, seed=3))
    docs = prepare(load_split(SPLITS["bios"], {}, TextOptions()), TextOptions(n=20, seed=3), "bios", coins=True).docs
    assert texts.members == [doc["text"] for doc in docs if doc["label"] == 1]
    assert texts.nonmembers == [doc["text"] for doc in docs if doc["label"] == 0]


def test_without_n_all_members_are_trained_on(tmp_path):
    members, others = write(tmp_path / "m.jsonl", MEMBERS), write(tmp_path / "n.jsonl", [*OTHERS, MEMBERS[0]])
    texts = load_texts(Data(members=members, nonmembers=others))
    assert texts.members == MEMBERS[1:]  # the first stands on both sides
    assert len(texts.nonmembers) == 4  # two are the harness's shots


def test_members_alone_are_enough(tmp_path):
    texts = load_texts(Data(members=write(tmp_path / "m.jsonl", [*MEMBERS, " ", MEMBERS[0]])))
    assert (texts.members, texts.nonmembers, texts.counts) == (MEMBERS, [], {"left_out": 2})


def test_of_members_alone_n_draws_those_that_it_draws_beside_non_members(tmp_path):
    members, others = write(tmp_path / "m.jsonl", MEMBERS), write(tmp_path / "n.jsonl", OTHERS)
    drawn = load_texts(Data(members=members, n=4, seed=3))
    assert len(drawn.members) == 4
    assert drawn.members == load_texts(Data(members=members, nonmembers=others, n=4, seed=3)).members
    assert drawn.of_split == set(MEMBERS)  # which distil_on must not hold
    with pytest.raises(InputError, match=r"data\.n is 21, but .* has 20 members: use at most so many"):
        load_texts(Data(members=members, n=21))


def test_texts_to_distil_on_that_are_the_splits_own_are_left_out_and_counted(tmp_path, caplog):
    given = ["a new text", " ", MEMBERS[1], OTHERS[5], "another", OTHERS[0], "a new text", MEMBERS[19]]
    data = Data(
        members=write(tmp_path / "m.jsonl", MEMBERS),
        nonmembers=write(tmp_path / "n.jsonl", OTHERS),
        distil_on=write(tmp_path / "d.jsonl", given),
        n=2,
    )
    texts = load_texts(data)  # two members are drawn, but the teacher knows all; two non-members are shots
    kept, counts = other_texts(data.distil_on, data.column, texts)
    assert kept == ["a new text", "another"]
    assert counts == {"distil_on_empty": 1, "distil_on_duplicates": 1, "distil_on_shared": 4}
    assert "4 of its 8 texts are members or non-members" in caplog.text


def test_nothing_else_to_distil_on_is_an_error(tmp_path):
    members = write(tmp_path / "m.jsonl", MEMBERS)
    data = Data(members=members, distil_on=members)
    with pytest.raises(InputError, match=r"data\.distil_on: of its 20 texts 0 are blank, and the others are members"):
        other_texts(data.distil_on, data.column, load_texts(data))


def test_a_remedy_names_a_key_of_the_recipe(tmp_path):
    members, few = write(tmp_path / "m.jsonl", MEMBERS), write(tmp_path / "n.jsonl", OTHERS[:3])
    with pytest.raises(InputError, match=r"2 are taken out as shots and 2 must remain; give more non-members$"):
        load_texts(Data(members=members, nonmembers=few))
    with pytest.raises(InputError, match=r"data\.dataset_path: FILE or FOLDER"):
        load_texts(Data(split="wikimia_64"))


def test_one_token_texts_are_left_out_and_long_ones_cut(tiny):
    encoded = encode(["w1 w2 w3", "w1", "", "w4 w5 w6 w7 w8"], tiny.tokenizer(), max_length=4)
    assert encoded.positions == [0, 3]
    assert [len(ids) for ids in encoded.ids] == [3, 4]
    assert encoded.cut == 1


def test_nothing_to_predict_is_an_error(tiny):
    with pytest.raises(InputError, match="none of the 2 texts has two tokens"):
        encode(["w1", "w2"], tiny.tokenizer(), max_length=4)
