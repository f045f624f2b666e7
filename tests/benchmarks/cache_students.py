"""What a student loses that learns from the teacher's cache: its held-out perplexity beside the uncached student's.

    python tests/benchmarks/cache_students.py MODEL TEXTS [--layers 2] [--texts 240] [--tokens 128] [--epochs 6] …

TEXTS is a JSONL file: every other text trains the students, the rest measure them. Each student takes every so many of
the teacher's layers and keeps their weights; seeds differ in the order of the texts and in the draws.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from midistill_tasks.distill.run import run_recipe
from midistill_tasks.recipes.schema import Data, Loss, Recipe, Student, Teacher, Train

UNITS = ("byte", "word")


def perplexity(args: argparse.Namespace, folder: Path, seed: int, cache: Mapping[str, Any] | None) -> list[float]:
    """A byte and a word, of a student that is trained here."""
    kept = {**cache, "folder": str(folder / "cache")} if cache else None
    if cache and "samples" in cache:
        kept = {**(kept or {}), "seed": seed}
    name = "-".join(map(str, ("uncached",) if cache is None else (*cache, *cache.values())))
    recipe = Recipe(
        output=str(folder / f"{name}-{seed}"),
        seed=seed,
        teacher=Teacher(model=args.model, cache=kept),
        student=Student(every_nth_layer=args.layers, reinitialise=False),
        data=Data(
            members=str(folder / "members.jsonl"), nonmembers=str(folder / "heldout.jsonl"), max_length=args.tokens
        ),
        loss=Loss(temperature=args.temperature),
        train=Train(
            epochs=args.epochs, learning_rate=args.learning_rate, warmup_steps=10, audit_every=10**6, save_every=10**6,
            audit_texts=8,
        ),
    )  # fmt: skip
    measured = run_recipe(recipe).measured
    return [measured[f"student_heldout_{unit}_perplexity"] for unit in UNITS]


def main() -> None:
    """Prints a line a cache as soon as its students are there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("texts")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--number", type=int, default=240, help="of texts")
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--temperature", type=float, default=2.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--caches", type=json.loads, default=[{"samples": 96}, {"k": 128}])
    args = parser.parse_args()
    print(vars(args), flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        lines = Path(args.texts).read_text(encoding="utf-8").splitlines(keepends=True)[: args.number]
        for number, name in enumerate(("members", "heldout")):
            # Whole texts are measured: cut, so that both sides are as long.
            cut = (" ".join(json.loads(line)["text"].split()[: args.tokens * 3 // 4]) for line in lines[number::2])
            (folder / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in cut))
        whole = [perplexity(args, folder, seed, None) for seed in range(args.seeds)]
        for number, unit in enumerate(UNITS):
            print(f"uncached, a {unit}: {', '.join(f'{values[number]:.4f}' for values in whole)}", flush=True)
        for cache in args.caches:
            found = [perplexity(args, folder, seed, cache) for seed in range(args.seeds)]
            for number, unit in enumerate(UNITS):
                off = [100 * (a[number] / b[number] - 1) for a, b in zip(found, whole, strict=True)]
                figures = ", ".join(f"{by:+.2f} %" for by in off)
                print(f"{cache}, a {unit}: {figures}; mean {statistics.mean(off):+.2f} %", flush=True)


if __name__ == "__main__":
    main()
