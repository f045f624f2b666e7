from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from midistill_tasks.distill.samples import Row
from midistill_tasks.distill.supervision import TextFigures, compare, match, ratio, text_figures


def figures_of(name: str, loss: float, label: int = 1, tokens: int = 10, hits: int = 5) -> TextFigures:
    return TextFigures(name, name, label, loss, tokens, hits, hits * 0.5, hits * 0.4, hits * 1.0)


def test_the_figures_of_a_text_agree_with_plain_loops(tiny):
    teacher, student = tiny.model(seed=1), tiny.model(layers=1, seed=2)
    with torch.no_grad():
        for parameter in teacher.parameters():
            parameter.mul_(3)
    ids = [[2, 3, 4, 5, 6, 7, 8], [9, 2, 9]]
    rows = [Row(str(number), 1, "", str(number), 0.0) for number in range(2)]
    for row, found in zip(ids, text_figures(teacher, student, rows, ids), strict=True):
        hits, losses, teacher_p, student_p, entropy = 0, [], 0.0, 0.0, 0.0
        p, q = (
            model.eval()(torch.tensor([row])).logits[0].detach().double().softmax(-1) for model in (teacher, student)
        )
        for t in range(len(row) - 1):
            losses.append(-math.log(p[t, row[t + 1]]))
            if int(p[t].argmax()) == row[t + 1]:
                hits += 1
                teacher_p += float(p[t, row[t + 1]])
                student_p += float(q[t, row[t + 1]])
                entropy -= float((q[t] * q[t].log()).sum())
        assert (found.tokens, found.hits) == (len(row) - 1, hits)
        assert found.loss == pytest.approx(float(np.mean(losses)), rel=1e-4)
        assert [found.teacher_p, found.student_p, found.student_entropy] == pytest.approx(
            [teacher_p, student_p, entropy], rel=1e-4
        )


def test_the_error_of_a_share_over_tokens_is_that_of_repeated_draws_of_texts():
    draw = np.random.default_rng(0)

    def texts(number: int) -> list[TextFigures]:
        # Texts differ in their rates, so tokens of one text are far from independent.
        rates, lengths = draw.beta(2, 2, number), draw.integers(5, 60, number)
        return [
            figures_of(str(i), 1.0, tokens=int(n), hits=int(draw.binomial(n, p)))
            for i, (p, n) in enumerate(zip(rates, lengths, strict=True))
        ]

    found = [ratio(texts(60), lambda text: text.hits, lambda text: text.tokens) for _ in range(400)]
    spread = float(np.std([figure.value for figure in found]))
    assert np.mean([figure.stderr for figure in found]) == pytest.approx(spread, rel=0.1)


def test_texts_of_one_document_count_once():
    twice = [figures_of(str(i), 1.0, hits=i % 5) for i in range(10)]
    same = [TextFigures(**{**text.__dict__, "id": f"{text.id}b"}) for text in twice]
    once = ratio(twice, lambda text: text.hits, lambda text: text.tokens)
    assert ratio(twice + same, lambda text: text.hits, lambda text: text.tokens) == pytest.approx(once)


def test_matching_finds_the_nearest_partners_and_leaves_out_what_has_none():
    members = [figures_of("a", 1.0), figures_of("b", 2.0), figures_of("c", 0.1)]
    others = [figures_of("x", 1.9, 0), figures_of("y", 1.1, 0), figures_of("z", 5.0, 0)]
    pairs = match(members, others, caliper=0.3)
    assert sorted((one.id, other.id) for one, other in pairs) == [("a", "y"), ("b", "x")]


def test_groups_are_members_found_members_missed_and_non_members():
    texts = [figures_of(str(i), 1 + i / 10, int(i < 6)) for i in range(12)]
    table = compare(texts, {"loss": {"0", "1", "8"}})["loss"]
    assert {name: one.texts for name, one in table.items()} == {
        "vulnerable members": 2,  # 8 is called a member, but is none
        "other members": 4,
        "non-members": 6,
        "vulnerable, matched": 0,
        "non-members, matched": 0,
    }
    assert math.isnan(table["vulnerable, matched"].teacher_hits.value)


def test_the_verb_prints_and_stores_the_table_by_each_attack(tiny, teacher_folder, tmp_path, capsys):
    import argparse

    from midistill_tasks.cli import supervision as verb
    from midistill_tasks.errors import InputError

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
