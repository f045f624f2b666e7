"""What ten times as many texts take, scored in shards of one size and attacked: time and memory.

    OMP_NUM_THREADS=1 python tests/benchmarks/shards.py MODEL WORDS [--texts 10000] [--shard 2000]

MODEL is a causal model (stories260K), WORDS a JSONL file with a column `text` (Brown), whose words the texts are drawn
of: distinct ones of 32 tokens of the model's, seeded. Both sizes run the commands that people run, each in a process of
its own. CPU seconds count, which others on the machine slow down less than the clock; memory is the largest of any
process (ru_maxrss).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

TOKENS = 32


class Cost(NamedTuple):
    """Of a command and the processes that it began."""

    cpu: float
    megabytes: float


def cost(*arguments: str) -> Cost:
    """Of ``midistill ARGUMENTS``."""
    process = subprocess.Popen(
        [sys.executable, "-m", "midistill_tasks.cli", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    said = process.stderr.read().decode()
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(said[-3000:])
    return Cost(used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def write_texts(folder: Path, count: int, model: str, words: Path) -> None:
    """members.jsonl and nonmembers.jsonl, with two more of these for the shots."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    known = sorted({word for line in words.open(encoding="utf-8") for word in json.loads(line)["text"].split()})
    rng, seen = random.Random(0), set()
    while len(seen) < count + 2:
        text = " ".join(rng.choices(known, k=TOKENS))
        ends = tokenizer(text, return_offsets_mapping=True, add_special_tokens=False)["offset_mapping"]
        seen.add(text[: ends[TOKENS - 1][1]])
    texts = sorted(seen)
    rng.shuffle(texts)
    for name, side in (("members", texts[: count // 2]), ("nonmembers", texts[count // 2 :])):
        rows = (json.dumps({"text": text}) + "\n" for text in side)
        (folder / f"{name}.jsonl").write_text("".join(rows), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("words", type=Path)
    parser.add_argument("--texts", type=int, default=10_000, help="the smaller number")
    parser.add_argument("--shard", type=int, default=2000, help="texts of a shard")
    given = parser.parse_args()
    found: dict[str, list[Cost]] = {"score": [], "attack": []}
    for times in (1, 10):
        count = times * given.texts
        with TemporaryDirectory() as name:
            folder = Path(name)
            write_texts(folder, count, given.model, given.words)
            files = {side: str(folder / f"{side}.jsonl") for side in ("members", "nonmembers")}
            command = ["score", "files", "--model_args", f"pretrained={given.model}", "--device", "cpu"]
            command += ["--batch_size", "64", "--metadata", json.dumps({"mia": files})]
            stats = str(folder / "stats")
            found["score"].append(cost(*command, "--shards", str(count // given.shard), "--output", stats))
            found["attack"].append(cost("attack", stats, "--output", str(folder / "results")))
            size = sum(file.stat().st_size for file in Path(stats).rglob("*.parquet")) / count
            costs = {what: each[-1] for what, each in found.items()}
            said = ", ".join(f"{what} {each.cpu:.0f} s, {each.megabytes:.0f} MB" for what, each in costs.items())
            print(f"{count} texts: {said}; {size:.0f} bytes a text; load {os.getloadavg()[0]:.1f}", flush=True)
    for what, (one, ten) in found.items():
        print(f"{what}: time {ten.cpu / one.cpu:.2f} x (must 10.5), memory {ten.megabytes / one.megabytes:.2f} x (1.2)")


if __name__ == "__main__":
    main()
