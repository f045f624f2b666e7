"""Whatever stands in the harness's files: what they say comes out and goes on a page, or one InputError."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mutate import JSON, damaged, mutated

from midistill_tasks.errors import InputError
from midistill_tasks.report.build import build
from midistill_tasks.results.reader import read_attacks, read_runs
from midistill_tasks.results.roles import read_group
from midistill_tasks.results.run import Run

VALUES = JSON | st.just("N/A") | st.just("nan") | st.just(10**400) | st.floats(-2, 2)


@pytest.fixture(scope="module")
def whole(write_output: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model's results file, two attacks and two other figures."""
    rng, labels = np.random.default_rng(0), np.arange(16) % 2
    scores = {name: rng.normal(size=16) + labels for name in ("loss", "minkpp")}
    utility = {"heldout_made": {"word_perplexity": (20.0, "N/A", False)}, "other": {"acc": (0.5, 0.1, True)}}
    return write_output(tmp_path_factory.mktemp("whole"), labels, scores, utility=utility)


@pytest.fixture
def folder(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy to be changed."""
    copy = tmp_path_factory.getbasetemp() / "changed"
    copy.mkdir(exist_ok=True)
    return copy


def restore(whole: Path, folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
    for path in whole.parent.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())


def read(folder: Path) -> list[Run] | None:
    """The runs, after they were on a page; None where an InputError says why not."""
    try:
        runs = read_runs(folder)
        page = build(read_group([folder]))
        assert page.title
        read_attacks([folder])
        return runs
    except InputError as error:
        assert any(place in str(error) for place in (str(folder), "attack", "mia_", "split")), error  # noqa: PT017
        return None


def figures(run: Run) -> dict[str, Any]:
    return {name: [(item.id, item.label, repr(item.score)) for item in task.items] for name, task in run.tasks.items()}


@given(data=st.data())
def test_a_changed_results_file(whole: Path, folder: Path, data: st.DataObject) -> None:
    restore(whole, folder)
    changed = data.draw(mutated(json.loads(whole.read_text()), values=VALUES))
    (folder / whole.name).write_text(json.dumps(changed))
    runs = read(folder)
    if runs is not None:
        expected = figures(read_runs(whole)[0])
        assert all(expected.get(name, found) == found for name, found in figures(runs[0]).items())


@given(data=st.data())
def test_changed_samples(whole: Path, folder: Path, data: st.DataObject) -> None:
    restore(whole, folder)
    path = sorted(folder.glob("samples_*"))[0]
    rows = data.draw(mutated([json.loads(line) for line in path.read_text().splitlines()], values=VALUES))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    runs = read(folder)
    if runs is None:
        return
    (task,) = [task for task in (*runs[0].tasks.values(),) if task.path == path] or [None]
    if task is not None:  # no row is lost, and none is another text's
        said = {str(row["doc"]["id"]): (row["doc"]["label"], float(row["doc"]["score"])) for row in rows}
        assert {item.id: (item.label, repr(item.score)) for item in task.items} == {
            name: (label, repr(score)) for name, (label, score) in said.items()
        }


@given(data=st.data())
def test_damaged_bytes(whole: Path, folder: Path, data: st.DataObject) -> None:
    restore(whole, folder)
    path = data.draw(st.sampled_from(sorted(folder.iterdir())))
    path.write_bytes(data.draw(damaged(path.read_bytes())))
    read(folder)
