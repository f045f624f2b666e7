"""``evaluate.log_text: false``: no text stands in anything that a study writes, but in the data that it trains on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from midistill_tasks.cli.console import logged
from midistill_tasks.distill.selection import read_selection
from midistill_tasks.results.roles import read_group
from midistill_tasks.splits.bios import biographies
from midistill_tasks.study.recipe import Study
from midistill_tasks.study.run import run_study

TINY = {"model_type": "gpt2", "vocab_size": 300, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 256}


@pytest.fixture
def study(tmp_path):
    texts = [" ".join(text.split()[:20]) for text in biographies(86, seed=3)]
    for name, part in (("members", texts[:50]), ("nonmembers", texts[50:])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in part))

    def make(name: str, **evaluate) -> tuple[Study, list[str]]:
        values = {
            "output": str(tmp_path / name),
            "teacher": {"config": TINY, "fine_tune": {"epochs": 2}},
            "student": {"every_nth_layer": 2},
            "data": {side: str(tmp_path / f"{side}.jsonl") for side in ("members", "nonmembers")},
            "train": {"epochs": 1, "warmup_steps": 1},
            "arms": {"kept": {"non_vulnerable": True}},
            "evaluate": {"attacks": ["loss"], **evaluate},
        }
        return Study.model_validate(values), texts

    return make


def words_of(texts: list[str]) -> set[bytes]:
    """Every four words in a row of each text."""
    split = [text.split() for text in texts]
    return {" ".join(words[at : at + 4]).encode() for words in split for at in range(len(words) - 3)}


def files_with(words: set[bytes], folder: Path) -> set[str]:
    found = set()
    for path in folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            if any(some in content for some in words):
                found.add(str(path.relative_to(folder)).partition("/")[0])
    return found


@pytest.mark.slow
def test_no_file_of_the_study_holds_a_text(study):
    kept_out, texts = study("kept-out", log_text=False)
    usual, _ = study("usual")
    for one in (kept_out, usual):
        with logged(Path(one.output)):
            assert run_study(one, show_texts=True).failed == {}
        assert (Path(one.output) / "midistill.log").is_file()
    words = words_of(texts)
    assert files_with(words, Path(usual.output)) >= {"results", "selection", "report"}
    assert files_with(words, Path(kept_out.output)) == set()

    ours, theirs = (read_group([one.output]) for one in (kept_out, usual))
    for run, other in zip(ours.runs, theirs.runs, strict=True):
        assert [i.score for i in run.tasks["mia_loss_files"].items] == [
            i.score for i in other.tasks["mia_loss_files"].items
        ]
        name = "heldout_files/word_perplexity"
        assert run.utility[name].value == other.utility[name].value
    assert read_selection(Path(kept_out.output) / "selection") == read_selection(Path(usual.output) / "selection")
