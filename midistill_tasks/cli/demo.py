"""``midistill demo``: the study of the embedded default, after a control that nobody could accuse. No network."""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from midistill_tasks.cli.console import logged

if TYPE_CHECKING:
    from midistill_tasks.study.recipe import Study

STUDY = "study-bios"
OTHER_PEOPLE = 7
"""Seed of a second population of the same distribution, on which the control is trained."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("midistill-demo"),
        help="folder of the models, results and the page (default: %(default)s); run again, it goes on there",
    )


def run(args: argparse.Namespace) -> int:
    """Trains a control, a teacher and its students, attacks each, and says what came out and where the page is."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from midistill_tasks.cli.study import say
    from midistill_tasks.study.run import load_study, run_study

    start = time.monotonic()
    control, results = args.output / "control", args.output / "control-results"
    study = load_study(STUDY, [f"output={args.output / 'study'}", f"evaluate.reference={control}"])
    print("1. A control is trained as the teacher will be, but on other people, who are nobody in mia_bios …")
    with logged(Path(study.output)):
        _control(study, control, results)
        print(f"2. The study {STUDY}: a teacher trained on the members, its students, the attacks on each …")
        outcome = run_study(study)
    print("\nAUROC is the chance that a member scores above a non-member: 0.5 is no leak, 1 is a full one.\n")
    print(
        f"The control as lm_eval prints it; it saw no member, so what differs from 0.5 is chance:\n\n{_table(results)}"
    )
    print(f"The teacher, which saw the members:\n\n{_table(Path(study.output) / 'results' / 'teacher')}")
    status = say(outcome)
    print(f"Took {time.monotonic() - start:.0f} s.")
    return status


def _control(study: Study, folder: Path, results: Path) -> None:
    """A model like the teacher that saw neither members nor non-members; and what the attacks find in it."""
    from midistill_tasks.distill.data import Texts
    from midistill_tasks.splits.bios import biographies
    from midistill_tasks.study.evaluate import Harness
    from midistill_tasks.study.steps.teacher import make_teacher

    others = biographies(seed=OTHER_PEOPLE)
    half = len(others) // 2
    make_teacher(study, str(folder), Texts(list(others[:half]), list(others[half:])))
    if not results.exists():
        evaluate = study.evaluate.model_copy(update={"reference": None})  # it is the reference of the others
        Harness(study.model_copy(update={"evaluate": evaluate})).evaluate(str(folder), results)


def _table(results: Path) -> str:
    from lm_eval.utils import make_table

    return str(make_table(json.loads(next(results.rglob("results_*.json")).read_text(encoding="utf-8"))))
