"""Scores of two real models, computed apart from this project one text at a time, hold to 1e-4."""

from __future__ import annotations

import json

import pytest

NAMES = {"min_k": "mink", "min_k_plus_plus": "minkpp"}


def golden(shared, name, rows):
    """The golden rows of both labels that are asked for, their texts and the shots."""
    stored = json.loads((shared / "golden" / name).read_text())
    lines = (shared / "data" / "wikimia" / stored["data"]).read_text().splitlines()
    data = [json.loads(line) for line in lines]
    members = [row["input"] for row in data if row["label"] == 1]
    others = [row["input"] for row in data if row["label"] == 0]
    shots, half = stored["shots"], len(stored["rows"]) // 2
    chosen = [*range(half)][:: max(1, 2 * half // rows)]
    texts = [members[index] for index in chosen] + [others[shots + index] for index in chosen]
    expected = [stored["rows"][index] for index in chosen] + [stored["rows"][half + index] for index in chosen]
    return texts, others[:shots], expected


def check(got, expected):
    for index, row in enumerate(expected):
        for name, value in row.items():
            if name not in ("label", "n_tokens"):
                assert got[NAMES.get(name, name)][index] == pytest.approx(value, rel=1e-4), (name, index)


def test_stories260k(shared, stories260k, scoring):
    texts, shots, expected = golden(shared, "stories260K_wikimia_32.json", rows=200)
    assert len(expected) == 200

    check(scoring.attack(scoring.load(stories260k, batch_size=16), texts, shots), expected)


@pytest.mark.slow
def test_smollm2(shared, stories260k, smollm2, scoring):
    texts, shots, expected = golden(shared, "smollm2_wikimia_64.json", rows=8)
    reference = json.dumps({"pretrained": str(stories260k), "dtype": "float32"})

    check(scoring.attack(scoring.load(**smollm2, batch_size=4), texts, shots, reference), expected)
