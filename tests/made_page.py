"""A made-up study, the page of it, and a page's tags and words."""

from __future__ import annotations

import json
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest

from midistill_tasks.report.build import build, write
from midistill_tasks.results.roles import read_group

EVIL = '<script>document.title="owned"</script> & "quotes" | `ticks`'


class Tags(HTMLParser):
    """The tags of a page, and its words."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.words += data


@pytest.fixture(scope="session")
def study(tmp_path_factory, write_output, draw):
    """A study's folder: a teacher that leaks, two arms with two seeds each, a failed arm, one text with a script."""
    folder = tmp_path_factory.mktemp("study")
    rng = np.random.default_rng(0)
    labels, base = draw(rng, 240, 0.0)

    def model(name: str, shift: float, perplexity: float) -> str:
        scores = {a: base + rng.normal(size=240) * 0.2 + shift * labels * k for k, a in ((1, "loss"), (1.2, "mink"))}
        utility = {"heldout_made": {"word_perplexity": (perplexity, "N/A", False)}}
        path = write_output(
            folder / "results" / name, labels, scores, f"models/{name}", utility=utility, text=lambda _: EVIL
        )
        return str(path.parent.relative_to(folder))

    arms = {
        arm: {str(seed): model(f"{arm}{seed}", shift, perplexity + seed) for seed in (0, 1)}
        for arm, shift, perplexity in (("vanilla", 0.9, 30.0), ("nonorm", 0.1, 50.0))
    }
    manifest = {
        "teacher": model("teacher", 1.5, 20.0),
        "arms": arms,
        "controls": {"nonorm": "vanilla"},
        "failed": ["bottleneck, seed 0: no space left"],
    }
    (folder / "study.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture(scope="session")
def page(study, tmp_path_factory):
    return write(build(read_group([study])), tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="session")
def three_arms(study, tmp_path_factory):
    """The page of the same teacher with three arms of one seed: so many answers are a table."""
    folder = tmp_path_factory.mktemp("three")
    shutil.copytree(study / "results", folder / "results")
    manifest = json.loads((study / "study.json").read_text())
    arms = {arm: {"0": seeds["0"]} for arm, seeds in manifest["arms"].items()}
    manifest["arms"] = {**arms, "again": {"1": manifest["arms"]["vanilla"]["1"]}}
    (folder / "study.json").write_text(json.dumps(manifest))
    return write(build(read_group([folder])), tmp_path_factory.mktemp("report"))
