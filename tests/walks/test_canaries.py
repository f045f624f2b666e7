"""Somebody who plants canaries, fine-tunes and audits, as docs/canaries.md says: the same commands."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest

from .conftest import rows_of

pytestmark = pytest.mark.slow


def fine_tune(start: Path, lines: list[str], folder: Path, epochs: int = 3) -> None:
    """What anybody's training does: every line of the file, an epoch after another."""
    import torch
    from transformers import AutoModelForCausalLM

    from midistill_tasks.models.loading import load_tokenizer

    torch.manual_seed(0)
    tokenizer = load_tokenizer(str(start), "tiny")
    model = AutoModelForCausalLM.from_pretrained(start).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(epochs):
        for place in torch.randperm(len(lines)).split(20):
            batch = tokenizer([lines[n] for n in place.tolist()], return_tensors="pt", padding=True)
            labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
            model(**batch, labels=labels).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def test_canaries_planted_by_coins_prove_an_epsilon_and_repeats_leak_more(tiny, people, shell, tmp_path):
    made = shell("midistill", "canaries", "make", "--n", 480, "--kind", "random", "--repeats", "1,16", "--seed", 5,
                 "--output", "canaries/").out  # fmt: skip
    assert re.search(r"repeats +16: \d+ canaries inserted, \d+ held out", made)
    train = "".join(json.dumps({"text": text}) + "\n" for text in people[:60])
    inserted = (tmp_path / "canaries" / "inserted.jsonl").read_text(encoding="utf-8")
    (tmp_path / "mixed.jsonl").write_text(train + inserted, encoding="utf-8")
    assert "held out: 0 of" in shell("midistill", "canaries", "verify", "canaries/", "mixed.jsonl").out

    fine_tune(tiny("llama"), [json.loads(line)["text"] for line in (train + inserted).splitlines()], tmp_path / "model")
    options = json.dumps({"mia": {"canaries": "canaries/", "log_text": False}})
    model = ("--model", "hf", "--model_args", f"pretrained={tmp_path / 'model'},dtype=float32", "--device", "cpu")
    ran = shell(
        *("lm_eval", "--tasks", "mia_loss_canaries,mia_recall_canaries", *model, "--batch_size", 32),
        *("--metadata", options, "--output_path", "results", "--log_samples"),
    )
    (bound,) = map(float, re.findall(r"mia_loss_canaries.*?epsilon_lower.*?\| *([\d.]+)\|", ran.out.replace("\n", " ")))
    assert bound > 0.5
    assert "epsilon_lower is NaN: the attack puts texts of a known side in front" in ran.err

    shell("midistill", "report", "results")
    page = " ".join((tmp_path / "report" / "index.html").read_text(encoding="utf-8").split())
    assert f"(ε, 0)-differentially private with ε below {math.floor(100 * bound) / 100:.2f}" in page
    assert "What is not proven: that a model is private." in page
    once, often = rows_of(tmp_path / "report" / "repeats_canaries.csv")
    assert (once["attack"], once["repeats"], often["repeats"]) == ("loss", "1", "16")
    assert float(often["auroc_lower"]) > float(once["auroc_upper"])
    assert float(often["exposure, bits"]) > float(once["exposure, bits"]) + 2
    line = "ε of a line, at least"
    assert float(often[line]) == float(often["ε of a canary, at least"]) / 16
