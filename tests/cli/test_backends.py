"""`midistill backends`, and the README's table of the same."""

from __future__ import annotations

from pathlib import Path

from midistill_tasks.cli.main import main
from midistill_tasks.scoring import models
from midistill_tasks.scoring.models import BACKENDS, LMS
from midistill_tasks.scoring.protocol import SCORERS

README = Path(__file__).parents[2] / "README.md"


def test_the_list_says_what_each_gives_and_how_to_get_it(capsys, monkeypatch):
    monkeypatch.setattr(models, "find_spec", lambda name: None if name == "vllm" else object())
    assert main(["backends"]) == 0
    printed = capsys.readouterr().out
    rows = {row.split("|")[1].strip(): [cell.strip() for cell in row.split("|")[2:-1]] for row in printed.splitlines() if "|" in row}  # fmt: skip  # noqa: E501
    assert rows["hf"][:3] == ["yes", "gradient, greedy, logprob, moments, text", ""]
    assert rows["vllm"][0] == "no"
    assert "vllm: pip install 'midistill[vllm]'" in printed
    assert "llamacpp: pip install" not in printed
    assert rows["local-chat-completions"][1:3] == ["text", "all but samia, extraction, petal"]
    assert rows["hf-mlm"][2] == "recall, conrecall, gradnorm, samia, extraction, petal"


def test_every_scorer_and_every_model_of_ours_is_in_the_list():
    built_in = {name for name, scorer in SCORERS.items() if scorer.__module__.startswith("midistill_tasks.")}
    assert {one.lm for one in BACKENDS} == built_in
    assert {name: place.rpartition(":")[2] for name, place in LMS.items()} == {
        one.model: one.lm for one in BACKENDS if one.model in LMS
    }


def test_the_readme_has_the_same_table():
    from midistill_tasks.cli.backends import _short

    table = README.read_text(encoding="utf-8")
    for one in BACKENDS:
        install = f"`{one.install}`" if one.install else ""
        assert f"| `{one.model}` | {one.what} | {_short(one.lacks)} | {install} |" in table
