"""A backend of another package answers the tasks for a model class of the harness: one file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from made_package import install, lm_eval

SOURCE = '''
import numpy as np

from midistill_tasks import Encoded, HarnessScorer, Result, scorer


@scorer("DummyLM", gives={"logprob"})
class LettersScorer(HarnessScorer):
    """For the harness's `--model dummy`: finds a text the likelier, the fewer letters "a" it has."""

    max_length = 500

    def encode(self, text):
        return Encoded(tuple(map(ord, text)), lambda: range(1, len(text) + 1))

    def score(self, jobs, done):
        for job in jobs:
            done(job, Result(np.array([-3.0 if token == ord("a") else -1.0 for token in job.targets], np.float32)))
'''


@pytest.mark.slow
def test_its_model_is_attacked_by_the_stock_command_as_far_as_it_goes(tmp_path: Path) -> None:
    install(tmp_path / "site", "letters", SOURCE, "midistill.scorers")
    for name, letter in (("members", "b"), ("nonmembers", "a")):
        rows = [json.dumps({"text": f"x{letter * (5 + number)}"}) + "\n" for number in range(14)]
        (tmp_path / f"{name}.jsonl").write_text("".join(rows))
    mia = {name: str(tmp_path / f"{name}.jsonl") for name in ("members", "nonmembers")}
    done = lm_eval(
        tmp_path / "site",
        *("--tasks", "mia_files", "--model", "dummy", "--metadata", json.dumps({"mia": mia})),
        *("--output_path", str(tmp_path / "out"), "--log_samples"),
    )

    assert done.returncode == 0, done.stderr[-3000:]
    (written,) = (tmp_path / "out").rglob("results_*.json")
    results = json.loads(written.read_text())["results"]
    for attack in ("loss", "zlib", "mink"):
        assert results[f"mia_{attack}_files"]["auroc,none"] == 1.0
    assert "auroc,none" not in results["mia_minkpp_files"]
    assert "the attack 'minkpp' has no figure: it needs moments" in done.stderr
