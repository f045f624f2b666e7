"""``--hf_hub_log_args`` without a network: what is pushed is kept in a folder, which `datasets` then reads as it would
the repository on the hub. The hub's own side (its API, gates, the check of a card's YAML) is not met here."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import datasets
import pytest
from huggingface_hub import CommitOperationAdd, DatasetCard

from ..conftest import N
from .conftest import TASKS, TOKEN

pytestmark = pytest.mark.slow


class Repository:
    """In place of `huggingface_hub.HfApi`: a folder for each repository, and whether it is private."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.private: dict[str, bool] = {}

    def create_repo(self, *, repo_id: str, repo_type: str, private: bool, exist_ok: bool) -> None:
        assert (repo_type, exist_ok) == ("dataset", True)
        (self.folder / repo_id).mkdir(parents=True, exist_ok=True)
        self.private[repo_id] = private

    def upload_file(
        self, *, repo_id: str, path_or_fileobj: str, path_in_repo: str, repo_type: str, commit_message: str
    ) -> None:
        checked = CommitOperationAdd(path_in_repo=path_in_repo, path_or_fileobj=path_or_fileobj).path_in_repo
        target = self.folder / repo_id / checked
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path_or_fileobj, target)

    def upload_folder(
        self, *, repo_id: str, folder_path: str, path_in_repo: str, repo_type: str, commit_message: str
    ) -> None:
        shutil.copytree(folder_path, self.folder / repo_id / path_in_repo, dirs_exist_ok=True)

    def list_repo_files(self, *, repo_id: str, repo_type: str) -> list[str]:
        root = self.folder / repo_id
        return [str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: Any) -> Repository:
    from lm_eval.loggers import EvaluationTracker, evaluation_tracker

    hub = Repository(tmp_path / "hub")
    load = evaluation_tracker.load_dataset

    def load_dataset(kind: str, *, data_files: str, split: str) -> Any:
        path = data_files.partition("/datasets/")[2].replace("/resolve/main/", "/")
        return load(kind, data_files=str(hub.folder / path), split=split)

    def push_to_hub(card: DatasetCard, repo_id: str, repo_type: str) -> None:
        (hub.folder / repo_id / "README.md").write_text(str(card))

    monkeypatch.setattr(EvaluationTracker, "_api", staticmethod(lambda token: hub if token else None))
    monkeypatch.setattr(evaluation_tracker, "load_dataset", load_dataset)
    monkeypatch.setattr(DatasetCard, "push_to_hub", push_to_hub)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    return hub


@pytest.fixture
def model(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """Named as a person names theirs. The harness makes ``__tmp__model`` of ``/tmp/model``, a folder that `datasets`
    passes by; and Arrow 26 cannot read its ``[null, "None"]`` for a tokenizer without BOS, hence a Llama."""
    folder: Path = tiny("llama")
    monkeypatch.chdir(folder.parent)
    return folder.name


ARGS = "hub_results_org=us,details_repo_name=audit,push_results_to_hub=True,push_samples_to_hub=True"


def test_what_is_pushed_reads_as_a_data_set(logged, hub, model):
    run = logged("--hf_hub_log_args", ARGS, model=model)
    assert run.said("Could not save") == []
    assert hub.private == {"us/audit-private": True}
    repository = hub.folder / "us" / "audit-private"
    pushed = {path.name: path.read_bytes() for path in repository.rglob("*.json*")}
    assert pushed == {path.name: path.read_bytes() for path in run.folder.iterdir()}
    card = DatasetCard.load(repository / "README.md")
    auroc = run.results["results"]["mia_loss_files"]["auroc,none"]
    assert f'"auroc,none": {auroc}' in card.data.to_dict()["dataset_summary"]
    latest = {name.rpartition("__")[2]: name for name in datasets.get_dataset_config_names(str(repository))}
    assert set(TASKS) <= set(latest)
    for task in TASKS:
        rows = datasets.load_dataset(str(repository), name=latest[task], split="latest")
        samples = run.samples[task]
        assert len(rows) == len(samples) >= 2 * N
        assert [row["doc"]["id"] for row in rows] == [sample["doc"]["id"] for sample in samples]
        for row, sample in zip(rows, samples, strict=True):  # read with ten digits, hence approx
            assert row["doc"]["score"] == pytest.approx(sample["doc"]["score"])


def test_with_log_text_false_no_text_is_pushed(logged, hub, model, people):
    logged("--hf_hub_log_args", ARGS + ",public_repo=True", model=model, log_text=False)
    assert hub.private == {"us/audit": False}
    files = [path for path in (hub.folder / "us" / "audit").rglob("*") if path.is_file()]
    assert len(files) > len(TASKS)
    for path in files:
        content = path.read_text(encoding="utf-8")
        assert not [text for texts in people for text in texts if text in content], path
        assert TOKEN not in content
