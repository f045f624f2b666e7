"""Seconds that `midistill attack` takes on saved statistics: ``python tests/benchmarks/offline.py``.

Statistics of 1,000 texts of 64 tokens in every view that attacks read are made up and written; the command runs on them
in a process of its own, with its imports.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

for folder in ("", "campaigns"):
    sys.path.insert(0, str(Path(__file__).parents[1] / folder))

from null_texts import null_views  # noqa: E402

from midistill_tasks.stats import file as stats  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--texts", type=int, default=1000)
    parser.add_argument("--tokens", type=int, default=64)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        made_up(Path(folder) / "files.parquet", options.texts, options.tokens)
        start = time.perf_counter()
        command = [sys.executable, "-m", "midistill_tasks.cli", "attack", folder]
        subprocess.run(command, check=True)
        print(f"{options.texts} texts of {options.tokens} tokens: {time.perf_counter() - start:.1f} s (must 10, aim 3)")


def made_up(path: Path, texts: int, tokens: int) -> None:
    """The file of a run that asked for all views."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(texts):
        name = hashlib.sha256(str(number).encode()).hexdigest()[:16]
        doc = {"id": name, "label": number % 2, "cluster": name}
        rows += [stats.row_of(doc, view, found, True) for view, found in null_views(rng, 2.5, tokens)]
    counts = dict.fromkeys(("empty", "duplicates", "both_sides", "shots"), 0)
    about = {"model": "made-up", "split": "files", "ranks": 1, "options": {}, "counts": counts}
    stats.write(path, rows, about)


if __name__ == "__main__":
    main()
