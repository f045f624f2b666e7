"""Scores of two real models, computed apart from this project one text at a time, hold to 1e-4."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from midistill_tasks.attacks import ATTACKS

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


MADE_SINCE = {name for name, attack in ATTACKS.items() if not attack.by_default}
"""Attacks that the stored scores do not have."""


def check(got, expected):
    for index, row in enumerate(expected):
        for name, value in row.items():
            if name not in ("label", "n_tokens"):
                assert got[NAMES.get(name, name)][index] == pytest.approx(value, rel=1e-4), (name, index)


def test_stories260k(shared, stories260k, scoring):
    texts, shots, expected = golden(shared, "stories260K_wikimia_32.json", rows=200)
    assert len(expected) == 200

    check(scoring.attack(scoring.load(stories260k, batch_size=16), texts, shots, without=MADE_SINCE), expected)


@pytest.mark.slow
def test_smollm2(shared, stories260k, smollm2_folder, scoring):
    texts, shots, expected = golden(shared, "smollm2_wikimia_64.json", rows=8)
    reference = json.dumps({"pretrained": str(stories260k), "dtype": "float32"})

    lm = scoring.load(smollm2_folder, batch_size=4)
    check(scoring.attack(lm, texts, shots, reference, without=MADE_SINCE), expected)  # the reference's tokens differ


@pytest.mark.slow
def test_smollm2_through_the_command_line(shared, stories260k, smollm2_folder, tmp_path):
    """A stock `lm_eval`, to its table and its files."""
    mia = {
        "n": 2,
        "dataset_path": str(shared / "data" / "wikimia" / "wikimia_64.jsonl"),
        "reference": {"pretrained": str(stories260k), "dtype": "float32"},
    }
    command = [sys.executable, "-m", "lm_eval", "--tasks", "mia_wikimia_64", "--model", "hf", "--device", "cpu"]
    command += [
        "--model_args",
        f"pretrained={smollm2_folder},dtype=float32",
        "--metadata",
        json.dumps({"mia": mia}),
        "--batch_size",
        "4",
    ]
    command += ["--output_path", str(tmp_path), "--log_samples"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)

    assert ran.returncode == 0, ran.stderr[-3000:]
    (written,) = tmp_path.rglob("results_*.json")
    figures = json.loads(written.read_text())["results"]
    for attack in (name for name, kind in ATTACKS.items() if kind.by_default):
        assert 0 <= figures[f"mia_{attack}_wikimia_64"]["auroc,none"] <= 1
        assert f"mia_{attack}_wikimia_64" in ran.stdout
        (samples,) = tmp_path.rglob(f"samples_mia_{attack}_wikimia_64_*.jsonl")
        assert len(samples.read_text().splitlines()) == 4
