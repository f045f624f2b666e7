from __future__ import annotations

import gzip
import json
from pathlib import Path

import datasets
import pyarrow
import pyarrow.parquet
import pytest

from midistill_tasks.errors import InputError
from midistill_tasks.splits import formats, readers

TEXTS = ["plain", 'comma, "quote"', "two\nlines", "separator\u2028and\x0cfeed", "ä 数"]


def test_jsonl_csv_and_parquet_give_back_the_same_texts(tmp_path: Path) -> None:
    table = datasets.Dataset.from_dict({"text": TEXTS})
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in TEXTS))
    table.to_csv(str(tmp_path / "a.csv"))
    table.to_parquet(str(tmp_path / "a.parquet"))
    for ending in ("jsonl", "csv", "parquet"):
        assert readers.read_file(tmp_path / f"a.{ending}") == {"text": TEXTS}, ending


@pytest.mark.parametrize("codec", ["", ".gz", ".zst"])
@pytest.mark.parametrize(
    ("ending", "content"),
    [
        ("jsonl", '{"text": "a, b"}\n"c"\n'),
        ("ndjson", '{"text": "a, b"}\n\n"c"\n'),
        ("json", ' [{"text": "a, b"},\n "c"]\n'),
        ("json", '"a, b"\n{"text": "c"}'),
        ("jsonl", '["a, b", "c"]'),
        ("csv", 'text\n"a, b"\nc\n'),
        ("tsv", "text\na, b\nc\n"),
        ("txt", "a, b\nc"),
    ],
)
def test_text_formats_are_read_compressed_as_well(tmp_path: Path, ending: str, content: str, codec: str) -> None:
    path = tmp_path / f"a.{ending}{codec}"
    packed = {"": bytes, ".gz": gzip.compress, ".zst": lambda data: pyarrow.compress(data, "zstd", asbytes=True)}
    path.write_bytes(packed[codec](content.encode("utf-8-sig")))
    assert readers.read_file(path) == {"text": ["a, b", "c"]}


def test_arrow_files_and_streams_are_read(tmp_path: Path) -> None:
    table = pyarrow.table({"text": TEXTS})
    for name, opened in (("a.arrow", pyarrow.ipc.new_stream), ("b.arrow", pyarrow.ipc.new_file)):
        with opened(str(tmp_path / name), table.schema) as writer:
            writer.write(table)
        assert readers.read_file(tmp_path / name) == {"text": TEXTS}
    datasets.Dataset.from_dict({"text": TEXTS}).save_to_disk(str(tmp_path / "saved"))
    (part,) = (tmp_path / "saved").glob("*.arrow")
    assert readers.read_file(part) == {"text": TEXTS}


@pytest.mark.parametrize(
    ("content", "table"),
    [
        ("text;n\na, b;1\n", {"text": ["a, b"], "n": ["1"]}),
        ('"text";"n"\n"a; b";1\n', {"text": ["a; b"], "n": ["1"]}),
        ("text\tn\na, b\t1\n", {"text": ["a, b"], "n": ["1"]}),
        (",text\n5,a\n7,b\n", {"text": ["a", "b"]}),  # what pandas writes unless told otherwise
        ("n,text\r1,a\r2,b", {"n": ["1", "2"], "text": ["a", "b"]}),
        ('text\na "b" c\n""\n', {"text": ['a "b" c', ""]}),
        ("\n\ntext,n\n\na,1\n", {"text": ["a"], "n": ["1"]}),
    ],
)
def test_csv_as_people_have_it(tmp_path: Path, content: str, table: object) -> None:
    (tmp_path / "a.csv").write_bytes(content.encode())
    assert readers.read_file(tmp_path / "a.csv") == table


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text,n\na, b,1\n", r"row 1, line 2: 3 fields for 2: text, n\); put a text that holds a comma"),
        ("text,n\na, b,1\nc,2\n", r"row 1, line 2: 3 fields for 2"),
        ("text,n\na,1\nb\n", r"row 2, line 3: 1 field for 2"),
        ('text,n\n"a\nb",1\nc,1,2\n', r"row 2, line 4: 3 fields"),
        ("text;n\na; b;1\n", r"row 1, line 2: 3 fields.*a semicolon"),
        ("text\tn\na\tb\t1\n", r"3 fields.*a tab"),
        ('text,n\n"a,1\nb,2\n', r"begins in line 2: unexpected end of data, so a quote is not closed.*double"),
        ('text,n\na,1\n"b,1\n"c",2\n', r"begins in line 3: .*so a quote is not closed"),
        ('text,n\n"say "yes"",1\n', r"begins in line 2: .*not doubled"),
        ("text,n,text\na,1,b\n", r"two columns are named 'text'"),
        ("text,\na, b\n", r"column 2 has no name"),
        (",text\nx,a\n", r"column 1 has no name"),
        ("\n", r"it is empty"),
    ],
)
def test_csv_that_would_lose_text_is_refused_with_row_and_remedy(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(InputError, match=rf"a\.csv: .*{message}"):
        readers.read_file(tmp_path / "a.csv")


def test_a_book_in_one_field_of_a_csv_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text\n" + "word " * 40_000)
    assert len(readers.read_file(tmp_path / "a.csv")["text"][0]) == 200_000


def test_old_macintosh_line_ends_end_lines(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"one\rtwo\r")
    (tmp_path / "b.txt").write_bytes(b"one\rstill one\ntwo")
    (tmp_path / "c.txt").touch()
    texts = [readers.read_file(tmp_path / f"{name}.txt")["text"] for name in "abc"]
    assert texts == [["one", "two"], ["one\rstill one", "two"], []]


@pytest.mark.parametrize(("encoding", "name"), [("utf-16", "UTF-16"), ("utf-16-le", "UTF-16LE"), ("utf-32", "UTF-32")])
@pytest.mark.parametrize("ending", ["jsonl", "csv", "txt.gz"])
def test_other_unicode_encodings_come_with_the_command(tmp_path: Path, ending: str, encoding: str, name: str) -> None:
    path, content = tmp_path / f"a.{ending}", '"text"\n"a"\n'.encode(encoding)
    path.write_bytes(gzip.compress(content) if ending.endswith("gz") else content)
    with pytest.raises(InputError, match=rf"a\.{ending}.*iconv -f {name} -t UTF-8 .*> a-utf8\.{ending[:3]}"):
        readers.read_file(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"text": "x"}\n{"text": "\\uD800"}\n', r"a\.jsonl, line 2: half a surrogate pair \(\\ud800\)"),
        ("a.json", '["x", "\\udfff"]', r"a\.json, row 2: half a surrogate pair \(\\udfff\)"),
        ("a.jsonl", '{"text": "x", "text": "y"}', r"line 1: .*'text' stands twice"),
        ("a.json", '["x",', r"a\.json, line 1: broken JSON"),
        ("a.json", '["x", 5]', r"a\.json, row 2: expected an object"),
        ("a.jsonl", "[" * 100_000, r"a\.jsonl.*broken JSON"),
    ],
)
def test_json_that_cannot_be_right_is_named_by_row(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message):
        readers.read_file(tmp_path / name)


def test_a_damaged_archive_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'"a"\n' * 100)[:-5])
    with pytest.raises(InputError, match=r"a\.jsonl\.gz cannot be decompressed"):
        readers.read_file(tmp_path / "a.jsonl.gz")


def test_a_column_that_stands_twice_in_parquet_is_refused(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table([["a"], ["b"]], names=["text", "text"]), tmp_path / "a.parquet")
    with pytest.raises(InputError, match="two columns are named 'text'"):
        readers.read_file(tmp_path / "a.parquet")


def test_a_folder_of_csv_that_datasets_would_shift_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("text,n\na, b,1\n")
    with pytest.raises(InputError, match="is CSV whose rows have more fields than its header"):
        readers.pick_part(readers.read_folder(tmp_path), "train", str(tmp_path))


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
    with pytest.raises(InputError, match=rf"a\.{ending}, line 2: byte 11 \(0xe9\) is not UTF-8.*iconv -f ISO-8859-1"):
        readers.read_file(tmp_path / f"a.{ending}")
    (tmp_path / f"a.{ending}").write_bytes("„caf\u00e9“\n".encode("cp1252"))
    with pytest.raises(InputError, match=r"line 1: .*iconv -f WINDOWS-1252"):  # in ISO-8859-1 they control a terminal
        readers.read_file(tmp_path / f"a.{ending}")


def test_a_list_is_looked_through_once_for_halves_of_characters(tmp_path: Path, monkeypatch) -> None:
    """Not once a row: that took hours for a list of 100 MB."""
    looked = []
    monkeypatch.setattr(formats, "_has_halves", lambda source: looked.append(source) or False)
    (tmp_path / "a.json").write_text(json.dumps([{"text": "word"}] * 30))
    assert len(readers.read_file(tmp_path / "a.json")["text"]) == 30
    assert len(looked) == 1


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
