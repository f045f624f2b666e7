from __future__ import annotations

import json
from pathlib import Path

import datasets
import pytest

from midistill_tasks.errors import InputError
from midistill_tasks.splits import readers

TEXTS = ["plain", 'comma, "quote"', "two\nlines", "separator\u2028and\x0cfeed", "ä 数"]


def test_jsonl_csv_and_parquet_give_back_the_same_texts(tmp_path: Path) -> None:
    table = datasets.Dataset.from_dict({"text": TEXTS})
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in TEXTS))
    table.to_csv(str(tmp_path / "a.csv"))
    table.to_parquet(str(tmp_path / "a.parquet"))
    for ending in ("jsonl", "csv", "parquet"):
        assert readers.read_file(tmp_path / f"a.{ending}") == {"text": TEXTS}, ending


def test_a_txt_file_holds_one_text_a_line_whatever_else_breaks_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffone\r\ntwo\u2028still two\x85\n\nfour".encode())
    assert readers.read_file(path) == {"text": ["one", "two\u2028still two\x85", "", "four"]}


def test_csv_values_stay_strings(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\n007,1\nNA,0\n")
    assert readers.read_file(tmp_path / "a.csv") == {"text": ["007", "NA"], "label": ["1", "0"]}


def test_jsonl_takes_bare_strings_and_fills_missing_keys(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('"bare"\n\n{"text": "b", "label": 1}\n')
    assert readers.read_file(tmp_path / "a.jsonl") == {"text": ["bare", "b"], "label": [None, 1]}


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no file '.*gone\.jsonl'"):
        readers.read_file(tmp_path / "gone.jsonl")


def test_another_ending_is_refused_with_those_that_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.docx").touch()
    with pytest.raises(InputError, match=r"'\.docx'.*\.jsonl, \.csv, \.parquet, \.txt"):
        readers.read_file(tmp_path / "a.docx")


@pytest.mark.parametrize("line", ['{"text": "y"', "[1, 2]", "5"])
def test_a_broken_json_line_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "a.jsonl").write_text(f'{{"text": "x"}}\n{line}\n')
    with pytest.raises(InputError, match=r"a\.jsonl, line 2: "):
        readers.read_file(tmp_path / "a.jsonl")


@pytest.mark.parametrize("ending", ["jsonl", "csv", "txt"])
def test_bytes_that_are_not_utf8_are_named_with_the_way_out(tmp_path: Path, ending: str) -> None:
    (tmp_path / f"a.{ending}").write_bytes(b'"text"\n"caf\xe9"\n')
    with pytest.raises(InputError, match=rf"a\.{ending}, line 2: byte 11 \(0xe9\) is not UTF-8.*iconv"):
        readers.read_file(tmp_path / f"a.{ending}")


def test_broken_csv_and_parquet_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\na,1\nb,c,0\n")
    (tmp_path / "b.csv").touch()
    (tmp_path / "a.parquet").write_text("no parquet")
    with pytest.raises(InputError, match=r"a\.csv: broken CSV .*line 3"):
        readers.read_file(tmp_path / "a.csv")
    with pytest.raises(InputError, match=r"b\.csv: broken CSV"):
        readers.read_file(tmp_path / "b.csv")
    with pytest.raises(InputError, match=r"a\.parquet: broken Parquet"):
        readers.read_file(tmp_path / "a.parquet")


def test_a_misspelt_column_comes_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"f has no column 'text' \(did you mean 'txt'\?\); its columns: txt, label"):
        readers.pick_column({"txt": [], "label": []}, "text", "f")


@pytest.mark.parametrize("value", [5, None, ["a"], float("nan")])
def test_a_text_that_is_no_string_is_named_by_its_row(value: object) -> None:
    with pytest.raises(InputError, match=r"f, row 2: 'text' is .*not a string"):
        readers.pick_texts({"text": ["a", value]}, "text", "f")


@pytest.mark.parametrize(("values", "row"), [([0, 1, "1"], 3), (["a", 5], 2), (["a", True], 2)])
def test_a_column_of_two_types_is_named_by_its_row(values: list[object], row: int) -> None:
    with pytest.raises(InputError, match=f"f, row {row}: 'c' is"):
        readers.to_dataset({"c": values}, "f")


def test_half_a_surrogate_pair_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "\\ud800"}\n')
    with pytest.raises(InputError, match="cannot be stored"):
        readers.to_dataset(readers.read_file(tmp_path / "a.jsonl"), "f")


def test_a_folder_that_is_no_data_set_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read as a data set"):
        readers.read_folder(tmp_path)
    with pytest.raises(InputError, match="no folder"):
        readers.read_folder(tmp_path / "gone")
