from __future__ import annotations

from pathlib import Path

import pytest

from midistill_tasks.errors import InputError
from midistill_tasks.splits import SPLITS
from midistill_tasks.splits.options import TextOptions
from midistill_tasks.splits.rows import load_split

FILES = SPLITS["files"]


def test_two_files_of_different_formats_give_members_then_non_members(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text('body,text\n"a, b",x\n')
    (tmp_path / "out.jsonl").write_text('{"body": "c"}\n{"body": "d"}\n')
    options = TextOptions(
        own={"members": str(tmp_path / "in.csv"), "nonmembers": str(tmp_path / "out.jsonl"), "column": "body"}
    )
    assert load_split(FILES, {}, options).to_dict() == {"text": ["a, b", "c", "d"], "label": [1, 0, 0]}


def test_txt_files_hold_one_text_a_line(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("one\ntwo\n")
    (tmp_path / "out.txt").write_text("three")
    options = TextOptions(own={"members": str(tmp_path / "in.txt"), "nonmembers": str(tmp_path / "out.txt")})
    assert load_split(FILES, {}, options).to_dict() == {"text": ["one", "two", "three"], "label": [1, 1, 0]}


def test_clusters_are_kept_where_both_files_have_them(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"text": "a", "cluster": "doc 1"}\n')
    (tmp_path / "out.jsonl").write_text('{"text": "b", "cluster": "doc 2"}\n')
    (tmp_path / "bare.jsonl").write_text('"b"\n')
    both, one = (
        TextOptions(own={"members": str(tmp_path / "in.jsonl"), "nonmembers": str(tmp_path / name)})
        for name in ("out.jsonl", "bare.jsonl")
    )
    assert load_split(FILES, {}, both)["cluster"][:] == ["doc 1", "doc 2"]
    assert "cluster" not in load_split(FILES, {}, one).column_names


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
