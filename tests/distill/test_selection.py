from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

import pytest

from midistill_tasks.cli import select as verb
from midistill_tasks.distill.selection import read_selection
from midistill_tasks.errors import InputError
from midistill_tasks.results.reader import read_attacks

DATE = "2026-01-02T03-04-05.678901"


def document(number: int, label: int, score: float) -> dict[str, object]:
    return {"id": f"id{number}", "label": label, "text": f"text {number}", "cluster": f"id{number}", "score": score}


def write_samples(folder: Path, attack: str, documents: list[dict[str, object]], date: str = DATE) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"samples_mia_{attack}_files_{date}.jsonl"
    path.write_text("".join(json.dumps({"doc_id": i, "doc": doc}) + "\n" for i, doc in enumerate(documents)))
    return path


def separable(number: int = 40) -> list[dict[str, object]]:
    """Members 0 … n/2−1, of which the first quarter scores like the non-members."""
    half = number // 2
    return [document(i, int(i < half), 5.0 + i / 100 if half // 4 <= i < half else i / 100) for i in range(number)]


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    verb.add_arguments(parser)
    return verb.run(parser.parse_args(list(arguments)))


def test_every_member_gets_a_decision_and_the_counts_are_printed(tmp_path, capsys):
    write_samples(tmp_path / "results", "loss", separable())
    assert run(str(tmp_path / "results"), "--output", str(tmp_path / "out")) == 0
    vulnerable, others = read_selection(tmp_path / "out")
    assert vulnerable.keys() == {f"id{i}" for i in range(5, 20)}
    assert others.keys() == {f"id{i}" for i in range(5)}
    assert "15 vulnerable, 5 non-vulnerable members" in capsys.readouterr().out
    first = json.loads((tmp_path / "out" / "vulnerable.jsonl").read_text().splitlines()[0])
    assert first == {"id": "id5", "text": "text 5"}


def test_rows_are_matched_by_id_and_not_by_position(tmp_path):
    documents = separable()
    write_samples(tmp_path / "a", "loss", documents)
    shuffled = random.Random(0).sample(documents, len(documents))
    write_samples(tmp_path / "a", "mink", shuffled)
    run(str(tmp_path / "a"), "--vote", "all", "--output", str(tmp_path / "out"))
    assert read_selection(tmp_path / "out")[0].keys() == {f"id{i}" for i in range(5, 20)}


@pytest.mark.parametrize(("vote", "found"), [("any", 15), ("majority", 15), ("all", 0)])
def test_a_vote_counts_the_attacks_that_call_a_text_a_member(tmp_path, vote, found):
    flat = [{**doc, "score": 0.0} for doc in separable()]
    for attack, documents in (("loss", separable()), ("mink", separable()), ("zlib", flat)):
        write_samples(tmp_path / "a", attack, documents)
    run(str(tmp_path / "a"), "--vote", vote, "--output", str(tmp_path / "out"))
    assert len(read_selection(tmp_path / "out")[0]) == found


def test_a_member_without_a_score_is_not_vulnerable_and_is_counted(tmp_path, capsys):
    documents = separable()
    documents[10]["score"] = float("nan")
    write_samples(tmp_path / "a", "loss", documents)
    run(str(tmp_path / "a"), "--output", str(tmp_path / "out"))
    assert read_selection(tmp_path / "out")[1]["id10"] == ("loss",)
    assert "(1 without a score)" in capsys.readouterr().out


def test_an_attack_that_does_no_better_than_chance_is_said_to_choose_at_random(tmp_path, capsys, caplog):
    noise = random.Random(1)
    write_samples(tmp_path / "a", "loss", separable())
    write_samples(tmp_path / "a", "zlib", [{**doc, "score": noise.random()} for doc in separable()])
    run(str(tmp_path / "a"), "--output", str(tmp_path / "out"))
    assert "zlib: balanced accuracy" in caplog.text
    assert "is not above 0.5 beyond its error" in caplog.text
    assert "loss: balanced accuracy" not in caplog.text
    assert "balanced accuracy" in capsys.readouterr().out


def test_the_newest_run_of_a_task_counts(tmp_path):
    write_samples(tmp_path / "a", "loss", separable(), "2026-01-01T00-00-00.0")
    newest = write_samples(tmp_path / "a", "loss", separable(), "2026-02-01T00-00-00.0")
    assert read_attacks([tmp_path / "a"])["loss"].path == newest


def test_a_selection_is_never_overwritten(tmp_path):
    write_samples(tmp_path / "a", "loss", separable())
    run(str(tmp_path / "a"), "--output", str(tmp_path / "out"))
    before = (tmp_path / "out" / "vulnerable.jsonl").read_text()
    with pytest.raises(InputError, match="already holds a selection"):
        run(str(tmp_path / "a"), "--attack", "loss", "--output", str(tmp_path / "out"))
    assert (tmp_path / "out" / "vulnerable.jsonl").read_text() == before


def test_what_cannot_be_used_is_refused_with_the_remedy(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="--log_samples"):
        read_attacks([tmp_path / "empty"])
    with pytest.raises(InputError, match="does not exist"):
        read_attacks([tmp_path / "nowhere"])
    textless = [{key: value for key, value in doc.items() if key != "text"} for doc in separable()]
    with pytest.raises(InputError, match=r"line 1 has no text.*log_text"):
        read_attacks([write_samples(tmp_path / "b", "loss", textless)])
    write_samples(tmp_path / "c", "loss", separable())
    write_samples(tmp_path / "c", "mink", separable(20))
    with pytest.raises(InputError, match="differ in 30 texts"):
        read_attacks([tmp_path / "c"])
    broken = write_samples(tmp_path / "d", "loss", separable())
    broken.write_text(broken.read_text()[:-20])
    with pytest.raises(InputError, match="line 40 is not a sample"):
        read_attacks([broken])
    with pytest.raises(InputError, match="did you mean 'loss'"):
        run(str(tmp_path / "c" / f"samples_mia_loss_files_{DATE}.jsonl"), "--attack", "los", "--output", "x")
