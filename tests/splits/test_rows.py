from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pytest

from midistill_tasks.errors import InputError
from midistill_tasks.splits import SPLITS
from midistill_tasks.splits.options import TextOptions
from midistill_tasks.splits.rows import load_split

WIKIMIA = SPLITS["wikimia_64"]
ROWS = [{"input": "a", "label": 0}, {"input": "b", "label": 1}]


def options(path: Path | dict[str, str]) -> TextOptions:
    return TextOptions(dataset_path=path if isinstance(path, dict) else str(path))


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_file_stands_in_for_the_hub(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", ROWS)
    assert load_split(WIKIMIA, WIKIMIA.config, options(path)).to_list() == ROWS


def test_a_folder_may_hold_a_file_named_like_the_split(tmp_path: Path) -> None:
    write(tmp_path / "wikimia_32.jsonl", ROWS[:1])
    write(tmp_path / "wikimia_64.jsonl", ROWS)
    assert load_split(WIKIMIA, WIKIMIA.config, options(tmp_path)).to_list() == ROWS


def test_a_map_gives_each_split_its_own_copy(tmp_path: Path) -> None:
    paths = {
        name: str(write(tmp_path / name / "x.jsonl", ROWS[i : i + 1]))
        for i, name in enumerate(["wikimia_32", "wikimia_64"])
    }
    for index, name in enumerate(paths):
        assert load_split(SPLITS[name], SPLITS[name].config, options(paths)).to_list() == ROWS[index : index + 1]


def test_a_misspelt_split_in_the_map_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'wikimia64' is no split \(did you mean 'wikimia_64'\?\)"):
        load_split(WIKIMIA, WIKIMIA.config, options({"wikimia64": str(tmp_path)}))


def test_a_saved_data_set_is_read_with_and_without_parts(tmp_path: Path) -> None:
    table = datasets.Dataset.from_list(ROWS)
    table.save_to_disk(str(tmp_path / "one"))
    datasets.DatasetDict({"WikiMIA_length64": table}).save_to_disk(str(tmp_path / "parts"))
    for folder in ("one", "parts"):
        assert load_split(WIKIMIA, WIKIMIA.config, options(tmp_path / folder)).to_list() == ROWS


def test_a_clone_of_the_hub_repository_is_read_by_its_own_readme(tmp_path: Path) -> None:
    for part, rows in (("WikiMIA_length32", ROWS[:1]), ("WikiMIA_length64", ROWS)):
        write(tmp_path / "data" / f"{part}.jsonl", rows)
    files = "".join(
        f"  - split: {part}\n    path: data/{part}.jsonl\n" for part in ("WikiMIA_length32", "WikiMIA_length64")
    )
    (tmp_path / "README.md").write_text(f"---\nconfigs:\n- config_name: default\n  data_files:\n{files}---\n")
    assert load_split(WIKIMIA, WIKIMIA.config, options(tmp_path)).to_list() == ROWS


def test_a_copy_without_the_part_names_those_it_has(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", ROWS)
    with pytest.raises(InputError, match=r"has no part 'WikiMIA_length64'; its parts: train"):
        load_split(WIKIMIA, WIKIMIA.config, options(tmp_path))


def test_a_copy_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no file or folder"):
        load_split(WIKIMIA, WIKIMIA.config, options(tmp_path / "gone"))


def test_a_users_own_task_needs_nothing_but_the_harness_keys(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.jsonl", ROWS)
    config = {
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(path)}, "trust_remote_code": True},
        "test_split": "test",
    }
    assert load_split(None, config, TextOptions()).to_list() == ROWS
    write(path, ROWS[1:])
    assert load_split(None, config, TextOptions()).to_list() == ROWS[1:], "an edited file must not come from a cache"


@pytest.mark.parametrize(
    ("config", "missing"), [({"test_split": "test"}, "dataset_path"), ({"dataset_path": "json"}, "test_split")]
)
def test_a_users_own_task_is_told_which_key_is_missing(config: dict[str, str], missing: str) -> None:
    with pytest.raises(InputError, match=f"no '{missing}'"):
        load_split(None, config, TextOptions())


def test_splits_that_download_nothing_ignore_the_local_copy_of_others(tmp_path: Path) -> None:
    assert len(load_split(SPLITS["bios"], {}, options(tmp_path))) == 1000


def test_a_ready_table_serves_a_split_with_a_loader(tmp_path: Path) -> None:
    rows = [{"text": "a", "label": 0}, {"text": "b", "label": 1}]
    assert load_split(SPLITS["mimir_arxiv"], {}, options(write(tmp_path / "x.jsonl", rows))).to_list() == rows


@pytest.mark.parametrize("length", [32, 64, 128])
def test_wikimia_as_it_is_published(shared: Path, length: int) -> None:
    split = SPLITS[f"wikimia_{length}"]
    rows = load_split(split, split.config, options(shared / "wikimia"))
    assert len(rows) == {32: 776, 64: 542, 128: 250}[length]
    assert set(rows[split.config["doc_to_target"]][:]) == {0, 1}
    assert all(len(text.split()) <= length for text in rows[split.config["doc_to_text"]])
