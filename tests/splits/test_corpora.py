from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest

from midistill_tasks.errors import InputError
from midistill_tasks.splits import SPLITS, corpora
from midistill_tasks.splits.options import TextOptions
from midistill_tasks.splits.rows import load_split


@pytest.mark.parametrize("n", [None, 3, 8000])
def test_the_hub_is_streamed_and_no_more_than_is_needed(n: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, int] = {}

    def stream(path: str, name: None, *, split: str, streaming: bool) -> Iterator[dict[str, Any]]:
        assert (split, streaming) == ("train", True)
        seen[path] = 0
        while True:
            seen[path] += 1
            yield {"text": f"{path} {seen[path]}", "generation": f"{path} {seen[path]}"}

    monkeypatch.setattr(datasets, "load_dataset", stream)
    rows = load_split(SPLITS["openwebtext"], {}, TextOptions(n=n))
    count = 16_000 if n == 8000 else corpora.TEXTS
    assert seen == {"Skylion007/openwebtext": count, "chargoddard/WebInstructSub-prometheus": count}
    assert rows["label"][:] == [1] * count + [0] * count
    assert rows[0]["text"] == "Skylion007/openwebtext 1"
    assert rows[count]["text"] == "chargoddard/WebInstructSub-prometheus 1"


def test_a_network_that_fails_on_the_way_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    class BrokenError(Exception):
        """Of a library below, and of no kind that we know."""

    def stream(*_: Any, **__: Any) -> Iterator[dict[str, Any]]:
        yield {"text": "first"}
        raise BrokenError("payload is not complete")

    monkeypatch.setattr(datasets, "load_dataset", stream)
    with pytest.raises(InputError, match=r"openwebtext' could not be loaded .*not complete.*give a local copy"):
        load_split(SPLITS["openwebtext"], {}, TextOptions())


def clone(folder: Path, name: str, column: str) -> None:
    (folder / name / "data").mkdir(parents=True)
    rows = [{column: f"{name} {number}", "other": 1} for number in range(3)]
    (folder / name / "data" / "train-00000-of-00001.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_folder_of_two_clones_serves_without_the_hub(tmp_path: Path) -> None:
    clone(tmp_path, "bookcorpus", "text")
    clone(tmp_path, "WebInstructSub-prometheus", "generation")
    rows = load_split(SPLITS["bookcorpus"], {}, TextOptions(dataset_path=str(tmp_path)))
    assert rows["text"][:] == [f"{name} {i}" for name in ("bookcorpus", "WebInstructSub-prometheus") for i in range(3)]
    assert rows["label"][:] == [1, 1, 1, 0, 0, 0]


def test_a_clone_that_is_missing_or_has_other_columns_is_named(tmp_path: Path) -> None:
    clone(tmp_path, "bookcorpus", "text")
    with pytest.raises(InputError, match=r"no folder '.*WebInstructSub-prometheus'"):
        corpora.load("rojagtap/bookcorpus", TextOptions(), tmp_path)
    clone(tmp_path, "WebInstructSub-prometheus", "generations")
    with pytest.raises(InputError, match=r"no column 'generation' \(did you mean 'generations'\?\)"):
        corpora.load("rojagtap/bookcorpus", TextOptions(), tmp_path)
