from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import datasets
import huggingface_hub
import pytest
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

from midistill_tasks.errors import InputError
from midistill_tasks.recipes.file import dump_recipe
from midistill_tasks.recipes.schema import Data
from midistill_tasks.splits import SPLITS
from midistill_tasks.splits.options import TextOptions
from midistill_tasks.splits.rows import load_split
from midistill_tasks.splits.sources import local_files, read_texts


def write(path: Path, *texts: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def shards(here: Path) -> Path:
    write(here / "b.jsonl", "three")
    write(here / "a.jsonl", "one", "two")
    (here / "c.csv").write_text("text\nfour\n")
    return here


@pytest.mark.parametrize(
    ("source", "texts"),
    [
        ("a.jsonl", ["one", "two"]),
        ("~/a.jsonl", ["one", "two"]),
        ("*.jsonl", ["one", "two", "three"]),
        ("~/*.jsonl", ["one", "two", "three"]),
        ("**/[ab].jsonl", ["one", "two", "three"]),
        (["b.jsonl", "c.csv"], ["three", "four"]),
        (["c.csv", "*.jsonl"], ["four", "one", "two", "three"]),
    ],
)
def test_files_globs_and_lists_are_read_in_order(shards: Path, source: Any, texts: list[str]) -> None:
    assert read_texts(source, "text") == texts
    data = Data(members=source, nonmembers="b.jsonl")
    assert Data.model_validate(data.model_dump(mode="json")) == data
    assert str(source).strip("'[]").split("'")[0] in dump_recipe(data)


def test_a_file_whose_name_looks_like_a_glob_is_that_file(here: Path) -> None:
    write(here / "texts [1].jsonl", "one")
    write(here / "texts 1.jsonl", "another")
    assert read_texts("texts [1].jsonl", "text") == ["one"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("*.parquet", r"no file matches '\*\.parquet'; check the pattern"),
        (["a.jsonl", "gone.jsonl"], "there is no file 'gone.jsonl'"),
        ([], "an empty list names no file"),
        ({"name": "x"}, "has no 'path'"),
        (
            {"path": "x", "part": "train"},
            r"no key 'part' \(did you mean 'path'\?\); its keys: path, name",
        ),
        ("hf://models/a/b", "no file of the hub; write hf://datasets/owner/name/path"),
        ({"path": "saved", "split": "train"}, "'saved' could not be loaded .*give a file or folder on this machine"),
    ],
)
def test_what_is_not_there_is_named(shards: Path, source: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_texts(source, "text")


def test_the_file_of_a_list_that_is_wrong_is_named(shards: Path) -> None:
    (shards / "d.jsonl").write_text('{"body": "five"}\n')
    with pytest.raises(InputError, match=r"d\.jsonl has no column 'text'"):
        read_texts(["a.jsonl", "d.jsonl"], "text")
    (shards / "d.jsonl").write_text('"five"\n{"text": 5}\n')
    with pytest.raises(InputError, match=r"d\.jsonl, row 2: 'text' is 5"):
        read_texts(["a.jsonl", "d.jsonl"], "text")


def test_folders_and_data_sets_are_read_by_datasets(here: Path) -> None:
    table = datasets.Dataset.from_dict({"text": ["one", "two"]})
    table.save_to_disk("saved")
    datasets.DatasetDict({"train": table}).save_to_disk("single")
    datasets.DatasetDict({"train": table, "test": table.select([1])}).save_to_disk("parts")
    write(here / "clone" / "train.jsonl", "one", "two")
    write(here / "clone" / "test.jsonl", "two")
    write(here / "names" / "en" / "train.jsonl", "one")
    for source in ("saved", "single", {"path": "saved"}, {"path": "single", "split": "train"}):
        assert read_texts(source, "text") == ["one", "two"], source
    for source in ({"path": "parts", "split": "test"}, {"path": "clone", "split": "test"}):
        assert read_texts(source, "text") == ["two"], source
    assert read_texts({"path": "names", "name": "en"}, "text") == ["one"]
    for source in ("parts", "clone"):
        with pytest.raises(InputError, match=r"several parts; its parts are train, test: choose one with \{\"path\": "):
            read_texts(source, "text")
    with pytest.raises(InputError, match=r"no part 'tset' \(did you mean 'test'\?\)"):
        read_texts({"path": "parts", "split": "tset"}, "text")
    with pytest.raises(InputError, match="saved has no column 'body'; its columns: text"):
        read_texts("saved", "body")


def test_a_data_set_of_the_hub_is_loaded_with_what_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = datasets.DatasetDict({name: datasets.Dataset.from_dict({"text": [name]}) for name in ("train", "test")})
    load = Mock(return_value=parts)
    monkeypatch.setattr(datasets, "load_dataset", load)
    source = {"path": "owner/name", "name": "en", "split": "test", "revision": "abc"}
    assert read_texts(source, "text") == ["test"]
    load.assert_called_once_with("owner/name", "en", revision="abc")
    assert local_files(source) == []


def test_a_file_of_the_hub_is_read_as_one_of_this_machine(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "cached.csv").write_text("text,n\na, b,1\n")
    download = Mock(return_value=str(here / "cached.csv"))
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    for revision, pinned in (("", {}), ("@refs%2Fpr%2F1", {"revision": "refs/pr/1"})):
        with pytest.raises(InputError, match=r"cached\.csv: broken CSV \(row 1"):
            read_texts(f"hf://datasets/owner/name{revision}/data/a.csv", "text")
        download.assert_called_with("owner/name", "data/a.csv", repo_type="dataset", **pinned)
    for error, message in (
        (LocalEntryNotFoundError("offline"), "cannot be reached.*give a file or folder on this machine"),
        (EntryNotFoundError("404"), "'owner/name' has no file 'a.csv'; check its path"),
    ):
        download.side_effect = error
        with pytest.raises(InputError, match=message):
            read_texts("hf://datasets/owner/name/a.csv", "text")


def test_lists_and_data_sets_serve_the_split_and_keep_clusters(shards: Path) -> None:
    rows = {"text": ["five", "six"], "cluster": ["x", "y"]}
    datasets.Dataset.from_dict(rows).save_to_disk("saved")
    own: dict[str, Any] = {"members": ["a.jsonl", "c.csv"], "nonmembers": {"path": "saved"}}
    found = load_split(SPLITS["files"], {}, TextOptions(own=own))
    assert found["text"][:] == ["one", "two", "four", "five", "six"]
    assert found["label"][:] == [1, 1, 1, 0, 0]
    assert found["name"][:] == ["a.jsonl:1", "a.jsonl:2", "c.csv:1", "saved:1", "saved:2"]
    own["members"] = "saved"
    assert load_split(SPLITS["files"], {}, TextOptions(own=own))["cluster"][:] == ["x", "y", "x", "y"]
