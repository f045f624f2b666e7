"""What the benchmarks share: turns taken within one process, ratios of each turn, one table."""

from __future__ import annotations

import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")


class Row(NamedTuple):
    """A line of the table: the ratios of all rounds, or in their place why there are none."""

    what: str
    must: str
    aim: str
    ratios: Sequence[float] | str


def interleaved(steps: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each step in each round. A round runs every step once, in turn forwards and backwards, so that a
    machine that others slow down slows all steps alike; an unmeasured round warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds + 1):
        for name in list(steps)[:: 1 if number % 2 else -1]:
            start = time.perf_counter()
            steps[name]()
            if number:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Of each round."""
    return [a / b for a, b in zip(above, below, strict=True)]


def in_fresh_process(function: Callable[..., T], *arguments: Any) -> T:
    """What the function answers in a process of its own, whose memory and imports are nobody else's."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def table(rows: Iterable[Row]) -> Iterator[str]:
    """Lines of Markdown, each as soon as its row is there: the median of the rounds, and their range."""
    yield "| what | must | aim | measured | rounds |\n|---|---|---|---|---|"
    for row in rows:
        if isinstance(row.ratios, str):
            figures = f"not measured: {row.ratios} | 0"
        else:
            low, high = min(row.ratios), max(row.ratios)
            figures = f"**{statistics.median(row.ratios):.3f}** | {len(row.ratios)}: {low:.3f} to {high:.3f}"
        yield f"| {row.what} | {row.must} | {row.aim} | {figures} |"


def machine() -> str:
    """Processor, cores, load and versions, in one line."""
    import torch
    import transformers

    information = Path("/proc/cpuinfo")
    text = information.read_text() if information.is_file() else ""
    model = next((line.split(":")[1].strip() for line in text.splitlines() if line.startswith("model name")), "")
    flags = [name for name in ("avx2", "avx512f") if f" {name} " in text]
    return (
        f"{model or platform.processor()} ({' '.join(flags) or platform.machine()}), {os.cpu_count()} cores,"
        f" {torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}; Python {platform.python_version()},"
        f" torch {torch.__version__}, transformers {transformers.__version__}"
    )
