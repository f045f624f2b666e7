"""Ratios on one device, within one run: ``python tests/gpu/table.py`` (``--device cpu --quick`` to try it)."""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import torch
from common import Row, interleaved, machine, ratios, table
from conftest import ask, fetch_smollm2, load
from distillation import QUICK, Size, step_ratios

from midistill_tasks.scoring.requests import ViewRequest
from midistill_tasks.splits.bios import biographies
from midistill_tasks.views import AFTER_SHOTS, TEXT

BATCH, SHOTS = 16, 7


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="few texts and small models: to see that it runs")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    for line in table(measure(options.device, options.quick)):
        print(line, flush=True)
    name = torch.cuda.get_device_name() if options.device == "cuda" else "CPU"
    print(f"\n{name}; {machine()}")


def measure(device: str, quick: bool) -> Iterator[Row]:
    """SmolLM2-135M on biographies, in float32 and bfloat16."""
    texts, rounds = list(biographies(16 if quick else 512, seed=1)), 1 if quick else 5
    for dtype in ("float32", "bfloat16"):
        lm = load(**{**fetch_smollm2(), "dtype": dtype}, device=device, batch_size=BATCH)
        lm._max_length = 1024 if quick else 2048
        ways = {name: synchronised(way, device) for name, way in ways_of(lm, texts).items()}
        seconds = interleaved(ways, rounds)

        def of(above: str, below: str, seconds: dict[str, list[float]] = seconds) -> list[float]:
            return ratios(seconds[above], seconds[below])

        yield Row(f"{dtype}: text view / bare `model(ids).logits`", "≤ 1.10", "≤ 1.03", of("text", "bare"))
        yield Row(
            f"{dtype}: ReCaLL's conditioned view, {SHOTS} shots / text view", "≤ 1.6", "≤ 1.35", of("after", "text")
        )
        yield Row(f"{dtype}: one text at a time / batches of {BATCH}", "report", "", of("singly", "text"))
        yield Row(f"{dtype}: batch `auto` / batches of {BATCH}", "≤ 1.1", "≤ 1.0", of("auto", "text"))
        del lm, ways
    with tempfile.TemporaryDirectory() as scratch:
        step = "KD step / (teacher forward + student forward and backward with plain CE), float32"
        yield Row(step, "≤ 1.10", "≤ 1.03", step_ratios(QUICK if quick else Size(), Path(scratch), device))


def ways_of(lm: Any, texts: list[str]) -> dict[str, Callable[[], Any]]:
    """What takes turns."""
    plain = [ViewRequest(text, TEXT) for text in texts]
    after = [ViewRequest(text, AFTER_SHOTS, tuple(texts[:SHOTS])) for text in texts[SHOTS:]]

    def with_batch(size: int | str, requests: list[ViewRequest]) -> None:
        lm.batch_size_per_gpu = size
        try:
            ask(lm, requests)
        finally:
            lm.batch_size_per_gpu = BATCH

    return {
        "bare": lambda: bare(lm, texts),
        "text": lambda: ask(lm, plain),
        "after": lambda: ask(lm, after),
        "singly": lambda: with_batch(1, plain),
        "auto": lambda: with_batch("auto", plain),
    }


def bare(lm: Any, texts: list[str]) -> None:
    rows = sorted((torch.tensor(lm.tok_encode(text)) for text in texts), key=len, reverse=True)
    with torch.inference_mode():
        for start in range(0, len(rows), BATCH):
            ids = torch.nn.utils.rnn.pad_sequence(rows[start : start + BATCH], batch_first=True)
            lm.model(ids.to(lm.device)).logits  # noqa: B018


def synchronised(way: Callable[[], Any], device: str) -> Callable[[], None]:
    def run() -> None:
        way()
        if device == "cuda":
            torch.cuda.synchronize()

    return run


if __name__ == "__main__":
    main()
