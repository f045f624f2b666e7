"""docs/findings.md is what the committed figures give, and a study's figures come into it by two commands."""

from __future__ import annotations

import importlib
import re
import shutil
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from made_frontier import write_study

from midistill_tasks.errors import InputError

DOCS = Path(__file__).parents[2] / "docs"
FINDINGS = DOCS / "findings"
PAGES = ("findings.md", "findings-tables.md")
COLLECTED = sorted(path.parent.name for path in FINDINGS.glob("data/*/facts.csv"))
STUDY = {
    "student": {"every_nth_layer": 2},
    "teacher": {"model": "/somewhere/far/stories260K", "fine_tune": {"epochs": 4}},
    "data": {"split": "bios"},
    "arms": {"vanilla": {}, "better": {"bottleneck": 24}},
    "frontier": {"checkpoints": 6},
}

pytestmark = pytest.mark.skipif(not FINDINGS.is_dir(), reason="the documents are not part of a source distribution")


@pytest.fixture
def copy(tmp_path) -> Path:
    """The documents' own copy of scripts, templates, data and pages; docs/findings of it."""
    shutil.copytree(FINDINGS, tmp_path / "docs" / "findings", ignore=shutil.ignore_patterns("__pycache__"))
    for page in PAGES:
        shutil.copy(DOCS / page, tmp_path / "docs" / page)
    return tmp_path / "docs" / "findings"


@pytest.fixture(scope="module")
def scripts() -> SimpleNamespace:
    """make and collect, which import their neighbours as scripts do."""
    sys.path.insert(0, str(FINDINGS))
    try:
        return SimpleNamespace(make=importlib.import_module("make"), collect=importlib.import_module("collect"))
    finally:
        sys.path.remove(str(FINDINGS))


def swap(file: Path, pattern: str, new: str) -> None:
    """In place of the first that fits."""
    text, found = re.subn(pattern, new, file.read_text(), count=1)
    assert found
    file.write_text(text)


def test_the_pages_are_what_the_data_give(scripts):
    assert scripts.make.stale(FINDINGS) == []


CHANGED = {
    "verdicts": {"findings.md"},
    "figures": {"findings-tables.md"},
    "frontier": {"findings-tables.md", "frontier.svg"},
}
"""File → what a figure in it makes stale."""


@pytest.mark.parametrize(
    ("study", "file"),
    [(study, file) for study in COLLECTED for file in CHANGED if (FINDINGS / "data" / study / f"{file}.csv").exists()],
)
def test_a_figure_that_is_changed_without_making_the_pages_is_found(scripts, copy, study, file):
    swap(copy / "data" / study / f"{file}.csv", r"(?<=,)0\.\d", "5.5")
    assert {path.name for path in scripts.make.stale(copy)} >= CHANGED[file]


def test_so_is_one_that_was_typed_over(scripts, copy):
    swap(copy / "data" / "earlier" / "copied.csv", "0.926 ± 0.005", "0.927 ± 0.005")
    assert [path.name for path in scripts.make.stale(copy)] == ["findings.md"]


def test_a_figure_that_is_typed_or_missing_is_refused(scripts, copy):
    swap(copy / "findings.md.jinja", "In short:", "In short, an AUROC of 0.617:")
    with pytest.raises(scripts.make.MissingFigureError, match=r"findings.md.jinja has figures of its own \(0.617\)"):
        scripts.make.made(copy)

    swap(copy / "findings.md.jinja", "0.617", '{{ auroc("elsewhere", "vanilla", "rmia") }}')
    with pytest.raises(
        scripts.make.MissingFigureError, match=r"elsewhere/figures.csv has 0 lines with model = vanilla, attack"
    ):
        scripts.make.made(copy)


def test_a_study_becomes_a_part_of_the_page(scripts, copy, tmp_path, write_output):
    study = tmp_path / "study"
    write_study(study, write_output, {"better": (0.4, 0.2), "weak": (0.02, 0.0)}, seeds=2, n=200)
    weak = {"non_vulnerable": True, "selection": f"{study}/selection"}
    settings = {**STUDY, "output": str(study), "arms": {**STUDY["arms"], "weak": weak}}
    (study / "study.yaml").write_text(yaml.safe_dump(settings))

    data = scripts.collect.collect(study, "made-up", copy / "data")
    taken = "".join(file.read_text() for file in data.iterdir())
    assert len(taken) < 50_000
    assert "text 1" not in taken
    assert str(tmp_path) not in taken
    assert "/somewhere/far" not in taken
    assert yaml.safe_load((data / "study.yaml").read_text())["arms"]["weak"] == {"non_vulnerable": True}

    made = scripts.make.made(copy)
    page = made[copy.parent / "findings.md"]
    (row,) = re.findall(r"^\| `better` \|.*$", page, re.M)
    assert "**leaks less**" in row
    assert "- Than a vanilla student of its perplexity: **leaks less**: `better`; **no comparison**: `weak`." in page
    drawn = ElementTree.fromstring(made[data / "frontier.svg"])  # noqa: S314 (made just now)
    assert {"better", "weak", "vanilla"} <= {element.text for element in drawn.iter("{http://www.w3.org/2000/svg}text")}


def test_a_name_that_would_replace_what_was_typed_over_is_refused(scripts, tmp_path):
    with pytest.raises(InputError, match="is not 'earlier'"):
        scripts.collect.collect(tmp_path, "earlier")
