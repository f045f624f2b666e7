"""`midistill supervision` from the harness's samples to the table."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from midistill_tasks.cli import supervision as verb
from midistill_tasks.errors import InputError


def test_the_verb_prints_and_stores_the_table_by_each_attack(tiny, teacher_folder, tmp_path, capsys):
    student = tmp_path / "student"
    tiny.model(layers=1, seed=4).save_pretrained(student)
    tiny.tokenizer().save_pretrained(student)
    for attack in ("loss", "ref"):
        path = tmp_path / f"samples_mia_{attack}_files_2026-01-02T03-04-05.6.jsonl"
        docs = [
            {"id": str(i), "label": int(i < 20), "text": text, "cluster": str(i), "score": float(i < 15)}
            for i, text in enumerate(tiny.texts(40))
        ]
        path.write_text("".join(json.dumps({"doc": doc}) + "\n" for doc in docs))
    parser = argparse.ArgumentParser()
    verb.add_arguments(parser)
    arguments = [str(tmp_path), "--teacher", str(teacher_folder), "--student", str(student)]
    args = parser.parse_args([*arguments, "--output", str(tmp_path / "table.json")])
    assert verb.run(args) == 0
    assert "vulnerable by ref" in capsys.readouterr().out
    stored = json.loads(Path(args.output).read_text())["tables"]
    assert stored["loss"]["vulnerable members"]["texts"] == 15
    assert stored["loss"]["other members"]["texts"] == 5
    with pytest.raises(InputError, match="exists: give another file"):
        verb.run(args)
