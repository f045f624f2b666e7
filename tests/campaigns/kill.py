"""Kills runs with -9 at random moments, repeats each until it is through, and compares all that came out.

    python tests/campaigns/kill.py                       100 kills in all, a quarter of an hour on two cores
    python tests/campaigns/kill.py --only distill --kills 30 --seed 7
    python tests/campaigns/kill.py --only ranks --kills 10      two processes under torchrun

A run's figures, scores, losses, tables and weights must be those of a run that nothing disturbed. Between two attempts
at scoring, bits of the cache are flipped and its files are cut short. The exit status says whether anything differed.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
os.environ |= {"OMP_NUM_THREADS": "1"}  # before the libraries that read them

import psutil
import warm

TOLERANCE = 1e-5
"""Of a score: another batch sums in another order. Weights, losses and texts are compared bit for bit."""
SCORE = """
import sys
import lm_eval.evaluator
from lm_eval import simple_evaluate
from lm_eval.loggers import EvaluationTracker
from lm_eval.tasks import TaskManager
from midistill_tasks.harness import yaml_folder

model, members, nonmembers, reference, folder = sys.argv[1:]
lm_eval.evaluator.add_env_info = lambda results: None
mia = {"members": members, "nonmembers": nonmembers, "reference": reference, "shots": 2}
tracker = EvaluationTracker(output_path=folder + "/results")
results = simple_evaluate(
    model="hf", model_args={"pretrained": model, "dtype": "float32"}, tasks=["mia_files", "heldout_files"],
    device="cpu", batch_size=2, use_cache=folder + "/cache", log_samples=True, evaluation_tracker=tracker,
    bootstrap_iters=0,
    task_manager=TaskManager(include_defaults=False, include_path=str(yaml_folder()), metadata={"mia": mia}),
)
samples = results.pop("samples")
tracker.save_results_aggregated(results=results, samples=samples)
for task in samples:
    tracker.save_results_samples(task_name=task, samples=samples[task])
"""


class Kind(NamedTuple):
    """A command to kill: its share of the kills, its arguments for a folder, and whether it goes on, not begins."""

    share: float
    command: Callable[[Path, bool], list[str]]
    launched: bool = False
    damaged: str = ""


class Told(NamedTuple):
    """What became of the runs of a kind."""

    counts: Counter[str]
    wrong: list[str]


# ---------------------------------------------------------------------- what is run


def materials(folder: Path) -> None:
    """Texts, two models, and the recipes, all tiny."""
    import made_students
    import torch

    from midistill_tasks.distill.fine_tune import train_tokenizer
    from midistill_tasks.splits.bios import biographies

    texts = [" ".join(text.split()[:25]) for text in biographies(82, seed=3)]
    for name, part in (("members", texts[:40]), ("nonmembers", texts[40:])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in part))
    tokenizer = train_tokenizer(texts, 300)
    for seed, name in enumerate(("model", "reference")):
        model = made_students._model(vocab_size=len(tokenizer), seed=seed, max_position_embeddings=256)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(3)
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    data = {"members": str(folder / "members.jsonl"), "nonmembers": str(folder / "nonmembers.jsonl"), "max_length": 64}
    train = {"epochs": 4, "batch_size": 4, "warmup_steps": 1, "save_every": 5, "log_every": 2, "audit_every": 10}
    distil = {"teacher": {"model": str(folder / "model")}, "student": {"every_nth_layer": 2}, "data": data}
    (folder / "recipe.json").write_text(json.dumps(distil | {"output": "OUT", "train": train}))
    teacher = {"model": str(folder / "model"), "fine_tune": {"epochs": 2}}
    study = {"arms": {"vanilla": {}, "kept": {"non_vulnerable": True}}, "evaluate": {"attacks": ["loss", "minkpp"]}}
    train |= {"epochs": 2}
    (folder / "study.json").write_text(
        json.dumps(distil | study | {"output": "OUT", "teacher": teacher, "train": train})
    )


def kinds(folder: Path) -> dict[str, Kind]:
    """By name; a recipe's JSON is YAML."""
    texts = [str(folder / f"{name}.jsonl") for name in ("members", "nonmembers")]
    score = ["-c", SCORE, str(folder / "model"), *texts, str(folder / "reference")]
    cli = ["-m", "midistill_tasks.cli"]

    def distil(out: Path, again: bool) -> list[str]:
        return [*cli, "distill", str(folder / "recipe.json"), "--set", f"output={out}", *["--resume"][: int(again)]]

    return {
        "scoring": Kind(0.5, lambda out, again: [*score, str(out)], damaged="cache*"),
        "distill": Kind(0.3, distil),
        "study": Kind(0.2, lambda out, again: [*cli, "study", str(folder / "study.json"), "--set", f"output={out}"]),
        "ranks": Kind(
            0.0,
            lambda out, again: [
                "-m",
                "torch.distributed.run",
                "--standalone",
                "--nproc_per_node",
                "2",
                *distil(out, again),
            ],
            launched=True,
        ),
    }


# ---------------------------------------------------------------------- what came out


def outcome(folder: Path) -> dict[str, Any]:
    """All that a run leaves for people: place → figure, text or digest."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        place = str(path.relative_to(folder))
        if path.is_dir() or "checkpoints" in place or "unfinished" in place:
            continue
        for name, value in _of_file(path):
            found[f"{_undated(place)} {name}"] = value
    return found


def _of_file(path: Path) -> Iterator[tuple[str, Any]]:
    if path.suffix == ".safetensors":
        yield "weights", hashlib.sha256(path.read_bytes()).hexdigest()
    elif path.name.startswith("results_"):
        for task, row in json.loads(path.read_text())["results"].items():
            yield from ((f"{task} {name}", value) for name, value in row.items() if isinstance(value, float))
    elif path.name.startswith("samples_"):
        for line in path.read_text().splitlines():
            row = json.loads(line)
            yield f"{row['doc'].get('id', row['doc_id'])}", row["doc"].get("score", row.get("word_perplexity"))
    elif path.name == "midistill.json":
        record = json.loads(path.read_text())
        yield from record["measured"].items()
        for line in record["log"]:
            yield from ((f"step {line['step']} {name}", value) for name, value in line.items() if "loss" in name)
    elif path.suffix == ".csv" and path.name not in ("runs.csv", "versions.csv"):
        rows = list(csv.reader(path.read_text().splitlines()))
        yield from ((f"{number},{column}", cell) for number, row in enumerate(rows) for column, cell in enumerate(row))
    elif path.suffix == ".jsonl" or path.name == "index.html":
        yield "is whole", path.stat().st_size > 0


def _undated(place: str) -> str:
    """Without the moment, and without what the harness makes of the model's folder."""
    *above, name = Path(place).parts
    kept = [part for part in above if "__" not in part]
    return "/".join([*kept, name.partition("_20")[0]])


def differing(ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    """Places where the two are not the same."""
    return [place for place in {**ours, **theirs} if not _same(ours.get(place), theirs.get(place))]


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=TOLERANCE, abs_tol=TOLERANCE) or (math.isnan(one) and math.isnan(other))
    return bool(one == other)


# ---------------------------------------------------------------------- kills


def campaign(kind: Kind, kills: int, draw: random.Random, work: Path) -> Told:
    """Runs of one kind until so many were killed; each is repeated until it is through."""
    told = Told(Counter(), [])
    start = time.monotonic()
    status, said = attempt(kind, work / "undisturbed", False, None)
    length = time.monotonic() - start
    if status != 0:
        raise SystemExit(f"the undisturbed run ended with {status}: {said}")
    expected = outcome(work / "undisturbed")
    while told.counts["kills"] < kills:
        out = work / f"run{told.counts['runs']}"
        last = through(kind, out, length, kills, draw, told)
        if last:
            told.wrong.append(last)
        else:
            found = outcome(out)
            told.wrong.extend(f"{out.name}: {place}" for place in differing(found, expected))
            told.counts["compared"] += len(expected)
        told.counts["runs"] += 1
        shutil.rmtree(out)
    return told


def through(kind: Kind, out: Path, length: float, kills: int, draw: random.Random, told: Told) -> str:
    """One run, killed again and again until it is through; why it did not get there, or ""."""
    again = False
    while True:
        moment = draw.uniform(0, 1.2 * length) if told.counts["kills"] < kills else None
        status, said = attempt(kind, out, again, moment)
        if status == 0:
            return ""
        if status != -signal.SIGKILL:
            return f"{out.name} ended with {status}: {said}"
        told.counts["kills"] += 1
        if (out / "midistill.json").is_file():  # killed after its last word
            return ""
        again = True
        if kind.damaged and draw.random() < 0.5:
            damage(sorted(out.glob(kind.damaged)), draw, told.counts)


def attempt(kind: Kind, out: Path, again: bool, moment: float | None) -> tuple[int, str]:
    """Starts the command and kills it at a moment (seconds, None = never); its status, −9 where it still ran."""
    command = [sys.executable, *kind.command(out, again)]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "said"
        if kind.launched:
            with log.open("wb") as file:
                launcher = subprocess.Popen(command, stdout=file, stderr=file)
                try:
                    status = launcher.wait(moment)
                except subprocess.TimeoutExpired:
                    for process in [*psutil.Process(launcher.pid).children(recursive=True), launcher]:
                        process.kill()
                    status = launcher.wait()
        else:
            process = warm.start(command, str(log))
            process.join(moment)
            if process.is_alive():
                process.kill()
            process.join()
            status = process.exitcode
        lines = log.read_text(errors="replace").strip().splitlines() if log.is_file() else []
        return status, next((line for line in lines if "error:" in line), " | ".join(lines[-3:]))


def damage(files: Sequence[Path], draw: random.Random, counts: Counter[str]) -> None:
    """Flips a bit of one of the files, or cuts it short."""
    whole = [path for path in files if path.is_file() and path.stat().st_size > 0]
    if not whole:
        return
    path = draw.choice(whole)
    content = bytearray(path.read_bytes())
    if draw.random() < 0.3:
        content = content[: draw.randrange(len(content))]
        counts["cuts"] += 1
    else:
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        counts["flips"] += 1
    path.write_bytes(bytes(content))


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints a table, and what differed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="in all, or of the one kind (default: 100)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=["scoring", "distill", "study", "ranks"], help="one kind alone")
    args = parser.parse_args(arguments)
    wrong: list[str] = []
    columns = ("runs of", "kills", "through", "bits flipped", "files cut", "compared", "wrong", "seconds")
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        materials(work)
        warm.run([sys.executable, "-c", ""])  # its server imports, which the first run is not to wait for
        for name, kind in kinds(work).items():
            share = 1.0 if name == args.only else 0.0 if args.only else kind.share
            if not share:
                continue
            (work / name).mkdir()
            start = time.monotonic()
            told = campaign(kind, math.ceil(share * args.kills), random.Random(f"{args.seed} {name}"), work / name)
            wrong += (f"{name}, {place}" for place in told.wrong)
            counts = [told.counts[each] for each in ("kills", "runs", "flips", "cuts", "compared")]
            row = [name, *counts, len(told.wrong), round(time.monotonic() - start)]
            print(f"| {' | '.join(map(str, row))} |", flush=True)
    print("\n".join(wrong[:50]))
    return int(bool(wrong))


if __name__ == "__main__":
    os.environ["PYTHONWARNINGS"] = "ignore"  # killed processes leave semaphores, of which the last one tells
    sys.exit(main())
