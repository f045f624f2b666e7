"""Somebody who compares attacks: raw statistics, sweeps, an attack of their own, a split of their own."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from .conftest import rows_of, write_jsonl

pytestmark = pytest.mark.slow
GUIDE = Path(__file__).parents[2] / "docs" / "research.md"


def block(language: str, containing: str) -> str:
    """The guide's own code, to be followed literally."""
    found = [
        text for text in re.findall(rf"```{language}\n(.*?)```", GUIDE.read_text(), re.DOTALL) if containing in text
    ]
    assert len(found) == 1, containing
    return found[0]


def arguments(command: str, **places: object) -> list[str]:
    """A command of the guide as a shell would take it apart, with our model in place of theirs."""
    import shlex

    for name, place in places.items():
        command = command.replace(name, str(place))
    return shlex.split(command.replace("\\\n", " "))


@pytest.fixture
def notes(people, tmp_path):
    """The file that the guide speaks of."""
    rows = [{"body": text, "seen": 1} for text in people[:200]] + [
        {"body": text, "seen": 0} for text in people[300:510]
    ]
    write_jsonl(tmp_path / "notes.jsonl", rows)


def test_the_guide_followed_to_the_letter(notes, leaking, shell, tmp_path):
    (tmp_path / "mia_notes.yaml").write_text(block("yaml", "MIASplit"))
    (tmp_path / "my_attack.py").write_text(block("python", "@attack("))

    run = arguments(block("bash", "save_stats"), MODEL=f"{leaking},dtype=float32")
    first = shell("lm_eval", *run[1:], "--device", "cpu")
    for value in ("k=0.1", "k=0.2", "k=0.4", "crossfit"):
        assert value in first.out
    (results,) = (tmp_path / "results").rglob("results_*.json")
    row = json.loads(results.read_text())["results"]["mia_mink_notes"]
    assert {"auroc,crossfit", "auroc,k=0.1"} <= set(row)

    again = arguments(block("bash", "midistill attack"))
    attacked = shell("midistill", *again[1:])
    assert re.search(r"\| minkpp +\| crossfit", attacked.out)

    code = block("python", "idxmin")
    (tmp_path / "notebook.py").write_text(code)
    said = shell("python", "notebook.py").out
    assert "most likely" in said

    own = shell("python", "my_attack.py").out
    assert re.search(r"AUROC [01]\.\d+ ± 0\.\d+", own)

    shell("midistill", "report", "results")
    figures = rows_of(tmp_path / "report" / "figures-notes.csv")
    assert {row["attack"] for row in figures} >= {"loss", "mink", "minkpp", "zlib"}


def test_a_metric_on_request_is_asked_for_as_the_reference_says(notes, leaking, shell, tmp_path):
    content = block("yaml", "MIASplit") + "metric_list: [{metric: auroc}, {metric: balanced_acc_oracle}]\n"
    (tmp_path / "mia_notes.yaml").write_text(content)
    ran = shell(
        *("lm_eval", "--tasks", "./mia_notes.yaml", "--model", "hf", "--device", "cpu"),
        *("--model_args", f"pretrained={leaking},dtype=float32"),
    )
    assert ran.out.count("|balanced_acc_oracle") == 5
    assert "|member_acc" not in ran.out
