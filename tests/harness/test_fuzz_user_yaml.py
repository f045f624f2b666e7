"""Whatever stands in the YAML of a user's split: its texts are served with their labels, or one InputError."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mutate import mutated

from midistill_tasks.errors import InputError
from midistill_tasks.harness.group import MIASplit
from midistill_tasks.harness.task import MIATask

KEYS = st.sampled_from(
    ["split", "attack", "metric_list", "dataset_name", "process_docs", "doc_to_choice", "tag", "num_fewshot", "repeats"]
)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are no files that datasets would take for want of a name."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def mine(labelled: Path) -> dict[str, Any]:
    return {
        "task": "mia_loss_mine",
        "attack": "loss",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"train": str(labelled)}},
        "test_split": "train",
        "doc_to_text": "sentence",
        "doc_to_target": "seen",
        "metadata": {"version": 1.0, "valid_for": "the model of this test", "mia": {"shots": 2, "n": 10}},
    }


def served(config: Any, kind: Any = MIATask) -> list[tuple[str, int]] | None:
    try:
        made = kind(config=config)
        task = next(iter(made)) if kind is MIASplit else made
        return list(zip(task.documents.docs["text"], task.documents.docs["label"], strict=True))
    except InputError as error:
        assert "\n" not in str(error)  # noqa: PT017 (either is right)
        return None


@given(data=st.data())
def test_a_changed_task(mine: dict[str, Any], people: tuple[list[str], list[str]], data: st.DataObject) -> None:
    texts = served(data.draw(mutated(mine, KEYS)))
    if texts is not None:
        sides = {text: 1 - side for side, given in enumerate(people) for text in given}
        assert all(sides.get(text, label) == label for text, label in texts)
        assert sum(label for _, label in texts) * 2 == len(texts) >= 2


@given(data=st.data())
def test_a_changed_split(mine: dict[str, Any], data: st.DataObject) -> None:
    whole = {key: value for key, value in mine.items() if key != "attack"} | {"task": "mia_mine"}
    config = data.draw(mutated(whole, KEYS))
    try:
        group = MIASplit(config)
    except InputError:
        return
    assert group.name == config["task"]
