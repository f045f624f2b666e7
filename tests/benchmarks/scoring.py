"""Speed and memory of scoring, as ratios within one run: ``python tests/benchmarks/scoring.py``.

SmolLM2-135M (from PyPI, 93 MB) in float32 on WikiMIA-64 (``../shared``, or ``--data FILE``). Every round measures all
ways one after the other, so that a busy machine slows them alike; the table shows the median of the rounds' ratios.
"One text at a time" is the oracle of the tests, a forward per text and view and whole rows in float64, with its loops
over tokens vectorised. Ten minutes on two cores.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import logging
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch
from conftest import SHARED, ask, fetch_smollm2, load
from oracle import log_distributions

from midistill_tasks.attacks import ATTACKS
from midistill_tasks.attacks.pac import swapped
from midistill_tasks.scoring.requests import ViewRequest
from midistill_tasks.views import AFTER_SHOTS, TEXT

SHOTS, BATCH = 7, 8
SIX = [name for name, attack in ATTACKS.items() if attack.by_default]
EXISTING = ["surp", "dcpdd", "ez", "wbc", "camia", "combined"]
"""On the views of the six: the text, after shots, under the reference."""
VIEWS_MORE = ["lowercase", "conrecall", "pac"]
"""With views of their own; what takes a backward pass or generates (`gradnorm`, `samia`, …) costs that."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=SHARED / "data" / "wikimia" / "wikimia_64.jsonl")
    parser.add_argument("--reference", type=Path, default=SHARED / "models" / "stories260K")
    parser.add_argument("--texts", type=int, default=64, help="how many, half of them members")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", choices=["bare", "ours"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory:
        print(peak_memory(options.memory))
        return
    for path in (options.data, options.reference):
        if not path.exists():
            sys.exit(f"{path} is not here; name it with --data or --reference")
    logging.disable(logging.WARNING)
    torch.set_num_threads(os.cpu_count() or 1)  # conftest asks for one
    seconds = measure(options)
    memory = {way: float(run_again("--memory", way)) for way in ("bare", "ours")}
    report(seconds, memory, options)


def measure(options: argparse.Namespace) -> list[dict[str, float]]:
    """Per round the seconds of each way."""
    lm = load(**fetch_smollm2(), batch_size=BATCH)
    texts, shots = wikimia(options.data, options.texts)
    reference = load(options.reference)
    ways: dict[str, Callable[[], Any]] = {
        "bare": lambda: bare(lm, texts),
        "text": lambda: ask(lm, [ViewRequest(text, TEXT) for text in texts]),
        "after": lambda: ask(lm, [ViewRequest(text, AFTER_SHOTS, tuple(shots)) for text in texts]),
        "six": lambda: evaluate(lm, SIX, options),
        "existing": lambda: evaluate(lm, SIX + EXISTING, options),
        "all": lambda: evaluate(lm, SIX + EXISTING + VIEWS_MORE, options),
        "views": lambda: every_view_bare(lm, reference, texts, shots),
        "three": lambda: evaluate(lm, ["loss", "recall", "ref"], options),
        "singly": lambda: one_at_a_time(lm, reference, texts, shots),
    }
    bare(lm, texts[:BATCH])
    rounds = []
    for number in range(options.rounds):
        order = list(ways) if number % 2 == 0 else list(reversed(ways))
        rounds.append({name: timed(ways[name]) for name in order})
        print(f"round {number + 1}:", {name: round(value, 2) for name, value in rounds[-1].items()}, file=sys.stderr)
    return rounds


def timed(way: Callable[[], Any]) -> float:
    start = time.perf_counter()
    way()
    return time.perf_counter() - start


def wikimia(path: Path, count: int) -> tuple[list[str], list[str]]:
    """Texts, half of them members, and the shots: the first non-members."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    members = [row["input"] for row in rows if row["label"] == 1]
    others = [row["input"] for row in rows if row["label"] == 0]
    return members[: count // 2] + others[SHOTS : SHOTS + count // 2], others[:SHOTS]


# ---------------------------------------------------------------------- the ways


def bare(lm: Any, texts: list[str]) -> None:
    """``model(ids).logits`` in batches sorted by length: what no scoring can do without."""
    rows = sorted((torch.tensor(lm.tok_encode(text)) for text in texts), key=len, reverse=True)
    with torch.inference_mode():
        for start in range(0, len(rows), BATCH):
            ids = torch.nn.utils.rnn.pad_sequence(rows[start : start + BATCH], batch_first=True)
            lm.model(ids).logits  # noqa: B018


def every_view_bare(lm: Any, reference: Any, texts: list[str], shots: list[str]) -> None:
    """Bare forwards of what all attacks read: text, lower case, variants, after shots of either side, reference."""
    for change in (str, str.lower, *(partial(swapped, number, 0.3) for number in range(1, 6))):
        bare(lm, [change(text) for text in texts])
    for front in ("".join(shots), "".join(texts[: len(shots)])):
        bare(lm, [front + text for text in texts])
    bare(reference, texts)


def evaluate(lm: Any, attacks: list[str], options: argparse.Namespace) -> None:
    """A whole run of the harness: documents, views, scores, metrics with their errors."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    from midistill_tasks.harness import yaml_folder

    mia = {
        "dataset_path": str(options.data),
        "n": options.texts // 2,
        "shots": SHOTS,
        "reference": {"pretrained": str(options.reference), "dtype": "float32"},
    }
    manager = TaskManager(include_defaults=False, include_path=[str(yaml_folder())], metadata={"mia": mia})
    tasks = [f"mia_{attack}_wikimia_64" for attack in attacks]
    lm_eval.simple_evaluate(model=lm, tasks=tasks, task_manager=manager, bootstrap_iters=0, log_samples=False)


def one_at_a_time(lm: Any, reference: Any, texts: list[str], shots: list[str]) -> None:
    """The figures of the six attacks as in the oracle: one text, one forward, distributions in float64."""
    prefix = lm.tok_encode("".join(shots))
    for text in texts:
        table = log_distributions(lm.model, lm.tok_encode(text))
        p = np.exp(table)
        mean = (p * table).sum(-1)
        np.sqrt((p * table**2).sum(-1) - mean**2)
        log_distributions(lm.model, prefix + lm.tok_encode(text))
        log_distributions(reference.model, reference.tok_encode(text))


# ---------------------------------------------------------------------- memory


def peak_memory(way: str) -> float:
    """MB above the loaded model at the highest, batch 8, texts of 512 tokens; in a process of its own."""
    lm = load(**fetch_smollm2(), batch_size=BATCH)
    words = "The quick brown fox jumps over the lazy dog and runs away from it. " * 60
    texts = [f"Number {index}. {words}" for index in range(BATCH)]  # equal ones would be read once
    lm._max_length = 512
    ask(lm, [ViewRequest("warm up", TEXT)])
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what loading left free would be used again, and not be seen
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts again from what is held now
    before = resident("VmRSS")
    if way == "bare":
        with torch.inference_mode():
            lm.model(torch.tensor([lm.tok_encode(text)[:512] for text in texts])).logits  # noqa: B018
    else:
        ask(lm, [ViewRequest(text, TEXT) for text in texts])
    return resident("VmHWM") - before


def resident(what: str) -> float:
    """A figure of /proc/self/status in MB (Linux only)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what)) / 1024


def run_again(*arguments: str) -> str:
    command = [sys.executable, __file__, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1]


# ---------------------------------------------------------------------- the table


def report(rounds: list[dict[str, float]], memory: dict[str, float], options: argparse.Namespace) -> None:
    def ratio(above: str, below: str) -> float:
        return statistics.median(seconds[above] / seconds[below] for seconds in rounds)

    rows = [
        (
            "text view with all statistics / bare `model(ids).logits`",
            "≤ 1.10",
            "≤ 1.03",
            f"{ratio('text', 'bare'):.3f}",
        ),
        ("ReCaLL's conditioned view, 7 shots / text view", "≤ 1.6", "≤ 1.35", f"{ratio('after', 'text'):.2f}"),
        ("six attacks in one run / one text at a time", "3.8 × faster", "4.5 ×", f"{ratio('singly', 'six'):.2f} ×"),
        ("six tasks / `loss`, `recall`, `ref` only", "≤ 1.05", "1.01", f"{ratio('six', 'three'):.3f}"),
        ("all attacks on the views of the six / the six", "≤ 1.02", "1.00", f"{ratio('existing', 'six'):.3f}"),
        ("`mia_all` / its views' bare forwards", "≤ 1.10", "≤ 1.05", f"{ratio('all', 'views'):.3f}"),
        ("peak memory / the bare forward's", "≤ 1.10", "below it", f"{memory['ours'] / memory['bare']:.2f}"),
    ]
    print("| what | must | aim | measured |\n|---|---|---|---|")
    for row in rows:
        print(f"| {' | '.join(row)} |")
    medians = {name: statistics.median(seconds[name] for seconds in rounds) for name in rounds[0]}
    print(f"\n{options.texts} texts, median of {len(rounds)} rounds, in seconds:", end=" ")
    print(", ".join(f"{name} {value:.1f}" for name, value in medians.items()), end="; ")
    print(f"MB above the loaded model: bare {memory['bare']:.0f}, ours {memory['ours']:.0f}.")
    print(f"{processor()}, {torch.get_num_threads()} threads of {os.cpu_count()} cores, torch {torch.__version__}.")


def processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


if __name__ == "__main__":
    main()
