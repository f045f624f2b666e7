"""Made-up results and tiny studies for these tests."""

import json

import pytest
from made_results import draw, make_run, make_task, write_output  # noqa: F401 (fixtures)
from warm import _one_description, _warm_reload  # noqa: F401 (fixtures)

from midistill_tasks.splits.bios import biographies
from midistill_tasks.study.recipe import Study

TINY = {"model_type": "gpt2", "vocab_size": 300, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 256}


@pytest.fixture(scope="session")
def studies(tmp_path_factory):
    """``studies(members, nonmembers, **values)(**changes)``: a study of so many texts in a folder of its own."""

    def studies(members: int, nonmembers: int, **own):
        folder = tmp_path_factory.mktemp("data")
        texts = [" ".join(text.split()[:20]) for text in biographies(members + nonmembers, seed=3)]
        for name, part in (("members", texts[:members]), ("nonmembers", texts[members:])):
            (folder / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in part))

        def make(**changes) -> Study:
            values = {
                "output": str(tmp_path_factory.mktemp("study")),
                "teacher": {"config": TINY, "fine_tune": {"epochs": 2}},
                "student": {"every_nth_layer": 2},
                "data": {"members": str(folder / "members.jsonl"), "nonmembers": str(folder / "nonmembers.jsonl")},
                "train": {"epochs": 2, "warmup_steps": 1, "save_every": 5},
                "evaluate": {"attacks": ["loss", "minkpp"]},
            }
            return Study.model_validate(values | own | changes)

        return make

    return studies
