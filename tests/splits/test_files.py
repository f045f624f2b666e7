from __future__ import annotations

from pathlib import Path

import pytest

from midistill_tasks.errors import InputError
from midistill_tasks.splits import SPLITS
from midistill_tasks.splits.documents import documents
from midistill_tasks.splits.options import TextOptions
from midistill_tasks.splits.rows import load_split

FILES = SPLITS["files"]


def test_two_files_of_different_formats_give_members_then_non_members(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text('body,text\n"a, b",x\n')
    (tmp_path / "out.jsonl").write_text('{"body": "c"}\n{"body": "d"}\n')
    options = TextOptions(
        own={"members": str(tmp_path / "in.csv"), "nonmembers": str(tmp_path / "out.jsonl"), "column": "body"}
    )
    assert load_split(FILES, {}, options).to_dict() == {
        "text": ["a, b", "c", "d"],
        "label": [1, 0, 0],
        "name": ["in.csv:1", "out.jsonl:1", "out.jsonl:2"],
    }


def test_txt_files_hold_one_text_a_line(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("one\ntwo\n")
    (tmp_path / "out.txt").write_text("three")
    options = TextOptions(own={"members": str(tmp_path / "in.txt"), "nonmembers": str(tmp_path / "out.txt")})
    assert load_split(FILES, {}, options).to_dict() == {
        "text": ["one", "two", "three"],
        "label": [1, 1, 0],
        "name": ["in.txt:1", "in.txt:2", "out.txt:1"],
    }


def test_clusters_are_kept_and_texts_of_files_without_them_are_documents_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text("".join(f'{{"text": "{text}", "cluster": "doc 1"}}\n' for text in "abc"))
    (tmp_path / "out.jsonl").write_text('{"text": "n", "cluster": "doc 2"}\n')
    (tmp_path / "bare.jsonl").write_text('"n"\n"m"\n"k"\n')
    both, one, none = (
        TextOptions(own={"members": str(tmp_path / members), "nonmembers": str(tmp_path / name)}, shots=1)
        for members, name in (("in.jsonl", "out.jsonl"), ("in.jsonl", "bare.jsonl"), ("bare.jsonl", "bare.jsonl"))
    )
    assert load_split(FILES, {}, both)["cluster"][:] == ["doc 1"] * 3 + ["doc 2"]
    assert "cluster" not in load_split(FILES, {}, none).column_names
    judged = documents(FILES, one).docs
    clusters = dict(zip(judged["text"][:], judged["cluster"][:], strict=True))
    assert clusters["a"] == clusters["c"] == "doc 1"
    assert clusters["m"] != clusters["k"] != "doc 1"


def test_files_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    for folder in ("in/x", "in/y", "out/x"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "train.txt").write_text(f"text of {folder}\n")
    own = {"members": str(tmp_path / "in" / "*" / "train.txt"), "nonmembers": str(tmp_path / "out/x/train.txt")}
    names = load_split(FILES, {}, TextOptions(own=own))["name"][:]
    assert names == ["in/x/train.txt:1", "in/y/train.txt:1", "out/x/train.txt:1"]


def test_a_file_that_was_not_given_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("one\n")
    with pytest.raises(InputError, match=r"needs a file of nonmembers: add --metadata '\{\"mia\""):
        load_split(FILES, {}, TextOptions(own={"members": str(tmp_path / "in.txt")}))


def test_a_misspelt_column_or_a_text_that_is_none_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"text": "a"}\n{"text": 5}\n')
    options = TextOptions(own={"members": str(tmp_path / "in.jsonl"), "nonmembers": str(tmp_path / "in.jsonl")})
    with pytest.raises(InputError, match=r"in\.jsonl, row 2: 'text' is 5"):
        load_split(FILES, {}, options)
    with pytest.raises(InputError, match=r"in\.jsonl has no column 'texts' \(did you mean 'text'\?\)"):
        load_split(FILES, {}, TextOptions(own=options.own | {"column": "texts"}))


def test_texts_are_named_by_the_users_column(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text('text,case_id\na,7\nb,"x, y"\n')
    (tmp_path / "out.jsonl").write_text('{"text": "c", "case_id": 9}\n')
    own = {"members": str(tmp_path / "in.csv"), "nonmembers": str(tmp_path / "out.jsonl"), "id_column": "case_id"}
    assert load_split(FILES, {}, TextOptions(own=own))["name"][:] == ["7", "x, y", "9"]
    with pytest.raises(InputError, match="has no column 'case' \\(did you mean 'case_id'"):
        load_split(FILES, {}, TextOptions(own=own | {"id_column": "case"}))
    (tmp_path / "out.jsonl").write_text('{"text": "c", "case_id": null}\n')
    with pytest.raises(InputError, match="row 1: 'case_id' is None, which names no text"):
        load_split(FILES, {}, TextOptions(own=own))


def test_members_that_are_not_judged_are_named_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text("".join(f'"{text}"\n' for text in ("a", "b", "a", " ", "x", "d", "e")))
    (tmp_path / "out.jsonl").write_text("".join(f'"{text}"\n' for text in ("x", "n1", "n2", "n3", "n4", "n4")))
    own = {"members": str(tmp_path / "in.jsonl"), "nonmembers": str(tmp_path / "out.jsonl")}
    found = documents(FILES, TextOptions(own=own, shots=1, n=3))
    assert [tuple(one) for one in found.left_out[:3]] == [
        ("in.jsonl:3", "the same text as in.jsonl:1"),
        ("in.jsonl:4", "no text"),
        ("in.jsonl:5", "also among the non-members: out.jsonl:1"),
    ]
    (drawn,) = found.left_out[3:]
    assert drawn.reason == "not among the 3 drawn"
    assert drawn.name not in found.docs["name"][:]
