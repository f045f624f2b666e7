"""An intervention against its control."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from midistill_tasks.metrics.roc import delong_paired
from midistill_tasks.results.reader import read_run

ARMS = ("vanilla", "nonorm")


def test_an_intervention_is_held_against_its_control_seed_by_seed(study, page):
    with (page.parent / "controls-made.csv").open(newline="") as lines:
        (row,) = csv.DictReader(lines)
    runs = {arm: [read_run(study / "results" / f"{arm}{seed}").on("made") for seed in (0, 1)] for arm in ARMS}
    areas = {
        arm: {name: np.mean([run[name].measured["auroc"].value for run in pair]) for name in pair[0]}
        for arm, pair in runs.items()
    }
    leaks = {arm: max(abs(value - 0.5) for value in found.values()) for arm, found in areas.items()}
    value, lower, upper = (float(row[f"reduction of the leak{end}"]) for end in ("", "_lower", "_upper"))
    assert value == pytest.approx(leaks["vanilla"] - leaks["nonorm"])
    of_texts = np.mean(
        [
            delong_paired(a["loss"].labels, a["loss"].scores, b["loss"].scores).se
            for a, b in zip(runs["vanilla"], runs["nonorm"], strict=True)
        ]
    )
    assert lower < value - 1.96 * of_texts, "it covers other texts, not these same ones alone"
    assert upper > value + 1.96 * of_texts
    assert (row["arm"], row["control"], row["seeds"]) == ("nonorm", "vanilla", "2")
