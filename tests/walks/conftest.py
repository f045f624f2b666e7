"""What the walks share: a shell, a model that was trained on made-up people, a hook on files and connections."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

SPY = """\
import json, os, sys
seen = {"written": set(), "connected": set()}
def hook(event, args):
    if event == "open" and isinstance(args[0], str):
        mode, flags = args[1], args[2]
        writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR)
        if writes or (isinstance(mode, str) and set(mode) & set("wax+")):
            seen["written"].add(os.path.abspath(args[0]))
    elif event == "socket.getaddrinfo":
        seen["connected"].add(repr(args[0]))
    elif event == "socket.connect":
        seen["connected"].add(repr(args[1]))
sys.addaudithook(hook)
from lm_eval.__main__ import cli_evaluate
try:
    cli_evaluate()
finally:
    with open(os.environ["SEEN"], "w") as file:
        json.dump({name: sorted(found) for name, found in seen.items()}, file)
"""
COMMANDS = {
    "lm_eval": [sys.executable, "-m", "lm_eval"],
    "midistill": [sys.executable, "-m", "midistill_tasks.cli"],
    "python": [sys.executable],
    "spied": [sys.executable, "-c", SPY],
}


@dataclass(frozen=True)
class Done:
    """A finished command."""

    code: int
    out: str
    err: str


@pytest.fixture
def shell(tmp_path: Path) -> Callable[..., Done]:
    """``shell("midistill", "report", …)`` in a folder of its own, with an empty home and without the offline switch."""

    def shell(command: str, *arguments: Any, code: int = 0) -> Done:
        dropped = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE")
        environment = {name: value for name, value in os.environ.items() if name not in dropped}
        (tmp_path / "tmp").mkdir(exist_ok=True)
        environment |= {"TMPDIR": str(tmp_path / "tmp")}
        environment |= {"HOME": str(tmp_path / "home"), "SEEN": str(tmp_path / "seen.json"), "COLUMNS": "120"}
        done = subprocess.run(
            [*COMMANDS[command], *map(str, arguments)],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=400,
        )
        assert done.returncode == code, done.stderr[-3000:]
        return Done(done.returncode, done.stdout, done.stderr)

    return shell


@pytest.fixture(scope="session")
def people() -> list[str]:
    """Made-up biographies, each of its own words."""
    from midistill_tasks.splits.bios import biographies

    return [" ".join(text.split()[:30]) for text in biographies(520, seed=11)]


@pytest.fixture(scope="session")
def leaking(tiny: Any, people: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that was trained for many epochs on the first 200 people."""
    import torch
    from transformers import AutoModelForCausalLM

    from midistill_tasks.models.loading import load_tokenizer

    torch.manual_seed(0)
    tokenizer = load_tokenizer(str(tiny("llama")), "tiny")
    model = AutoModelForCausalLM.from_pretrained(tiny("llama")).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    batches = [tokenizer(people[start : start + 20], return_tensors="pt", padding=True) for start in range(0, 200, 20)]
    for _ in range(25):
        for batch in batches:
            labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
            model(**batch, labels=labels).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    folder = tmp_path_factory.mktemp("leaking")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def rows_of(path: Path) -> list[dict[str, str]]:
    """A CSV file."""
    with path.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    """A row a line."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
