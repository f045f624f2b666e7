from __future__ import annotations

import json
from pathlib import Path
from unittest.mock import Mock

import huggingface_hub
import pytest
from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, LocalEntryNotFoundError

from midistill_tasks.errors import InputError
from midistill_tasks.splits import SPLITS, mimir
from midistill_tasks.splits.options import TextOptions
from midistill_tasks.splits.rows import load_split


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    for side, rows in (("train", ["m1", "m2"]), ("test", [{"text": "n1"}, "n2"])):
        for ngram in ("ngram_13_0.8", "ngram_7_0.2"):
            path = tmp_path / mimir.CACHE / side / f"wikipedia_(en)_{ngram}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(json.dumps(row) + "\n" for row in rows) if ngram == "ngram_13_0.8" else '"other"\n')
    return tmp_path


def test_train_texts_are_members_be_they_bare_strings_or_objects(clone: Path) -> None:
    rows = load_split(SPLITS["mimir_wikipedia"], {}, TextOptions(dataset_path=str(clone)))
    assert rows.to_dict() == {"text": ["m1", "m2", "n1", "n2"], "label": [1, 1, 0, 0]}


def test_the_option_ngram_chooses_the_file(clone: Path) -> None:
    rows = SPLITS["mimir_wikipedia"].load(TextOptions(own={"ngram": "ngram_7_0.2"}), clone)
    assert rows["text"][:] == ["other", "other"]
    with pytest.raises(InputError, match=r"'ngram_13_0\.9' \(did you mean 'ngram_13_0\.8'\?\)"):
        SPLITS["mimir_wikipedia"].load(TextOptions(own={"ngram": "ngram_13_0.9"}), clone)


def test_a_clone_without_the_file_names_it(clone: Path) -> None:
    with pytest.raises(InputError, match=r"no file '.*arxiv_ngram_13_0\.8\.jsonl'"):
        SPLITS["mimir_arxiv"].load(TextOptions(), clone)


def test_without_a_copy_the_two_files_come_from_the_hub(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def download(repo: str, name: str, *, repo_type: str) -> str:
        asked.append((repo, name, repo_type))
        return str(clone / name)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert len(SPLITS["mimir_wikipedia"].load(TextOptions(), None)) == 4
    assert asked == [
        ("iamgroot42/mimir", f"cache_100_200_1000_512/{side}/wikipedia_(en)_ngram_13_0.8.jsonl", "dataset")
        for side in ("train", "test")
    ]


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (GatedRepoError("gated", response=Mock()), r"accept its terms.*hf auth login.*dataset_path"),
        (LocalEntryNotFoundError("offline"), r"cannot be reached.*dataset_path"),
        (EntryNotFoundError("404"), r"no file.*ngram"),
        (ConnectionError("reset"), r"could not be downloaded.*dataset_path"),
    ],
)
def test_what_the_hub_refuses_is_explained(error: Exception, remedy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", Mock(side_effect=error))
    with pytest.raises(InputError, match=remedy):
        SPLITS["mimir_arxiv"].load(TextOptions(), None)
