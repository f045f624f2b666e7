"""What a study will do and about what it costs, before anything is done."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from midistill_tasks.attacks import ATTACKS
from midistill_tasks.distill.data import load_texts, read_texts
from midistill_tasks.errors import InputError
from midistill_tasks.splits.sources import places
from midistill_tasks.study.check import check, check_output
from midistill_tasks.study.evaluate import Harness
from midistill_tasks.study.recipe import Study
from midistill_tasks.study.steps import TEACHER, Step, steps
from midistill_tasks.study.texts import study_data

START = 8.0
"""Seconds that a step takes beside its arithmetic: loading, and for a student the check in a fresh process."""
SHARE = 0.15
"""Of a matrix product's speed, what small models reach; large ones reach more, so that theirs is an upper limit."""


@dataclass(frozen=True)
class Sizes:
    """Texts trained on, texts judged, tokens of one, parameters of teacher and student; None = not known beforehand."""

    members: int | None
    texts: int | None
    tokens: int
    teacher: int | None
    student: int | None


def plan(study: Study) -> str:
    """The steps, one a line, with seconds where the sizes are known beforehand, and what is done already.

    Raises:
        InputError: as `check_output` and `check`: what the study itself would refuse.
    """
    check_output(study)
    harness = Harness(study)
    planned = steps(study, harness)
    check(study, [step for step in planned if not step.done], harness)
    sizes, speed = _sizes(study), _speed()
    lines, total, unknown = [], 0.0, 0
    for step in planned:
        cost = None if step.done else _seconds(study, step, sizes, speed)
        unknown += cost is None and not step.done
        total += cost or 0.0
        said = "done" if step.done else "unknown" if cost is None else f"{cost:.0f} s"
        lines.append(f"  {step.part:<24} {step.what:<30} {said:>9}")
    rest = (
        f", and {unknown} steps of a cost that is not known before their models and texts are here" if unknown else ""
    )
    return "\n".join(
        [
            f"{study.output}: {len(lines)} steps, then the report",
            *lines,
            f"about {total / 60:.0f} min on this machine{rest}: a rough estimate from {SHARE:.0%} of the speed that a "
            f"matrix product reached here just now ({speed / 1e9:.0f} GFLOP/s), more where others use the machine",
        ]
    )


def _seconds(study: Study, step: Step, sizes: Sizes, speed: float) -> float | None:
    """6 operations a parameter and token to train, 2 for a forward (Kaplan et al. 2020, section 2.1)."""
    if step.what not in ("train", "train on the members", "evaluate"):
        return 1.0
    size = sizes.teacher if step.part == TEACHER else sizes.student
    if size is None or sizes.texts is None or sizes.members is None or sizes.teacher is None:
        return None
    if step.what == "evaluate":
        views = {view for attack in study.evaluate.chosen for view in ATTACKS[attack].views}
        work = 2.0 * size * sizes.tokens * sizes.texts * (len(views) + 0.5)  # the half: perplexity on one side
    elif step.part == TEACHER:
        assert study.teacher.fine_tune is not None  # noqa: S101 (it has this step)
        work = 6.0 * size * sizes.tokens * sizes.members * study.teacher.fine_tune.epochs
    else:
        work = (6.0 * size + 2.0 * sizes.teacher) * sizes.tokens * sizes.members * study.train.epochs
    return START + work / (SHARE * speed)


def _sizes(study: Study) -> Sizes:
    teacher = _parameters(study.teacher.config or study.teacher.model)
    student = study.student
    if student is None:
        size = None if study.arms else teacher  # ready-made students are taken to be as large as the teacher at most
    elif student.every_nth_layer is not None:
        size = None if teacher is None else teacher // student.every_nth_layer
    else:
        size = _parameters(student.config or student.checkpoint)
    return Sizes(*_counts(study), study_data(study).max_length, teacher, size)


def _counts(study: Study) -> tuple[int | None, int | None]:
    """Texts that are trained on and texts that are judged; None where they are not to be had without a download."""
    try:
        if study.documents and all(Path(file).expanduser().exists() for file in places(study.documents.path)):
            half = len(read_texts(study.documents.path, study.documents.column)) // 2
            return half, half if study.documents.null_control else 2 * half
        texts = load_texts(study_data(study))
    except InputError:
        if study.documents or study_data(study).split == "files":
            raise
        return None, None
    return len(texts.members), len(texts.members) + len(texts.nonmembers)


def _parameters(model: dict[str, Any] | str | None) -> int | None:
    """Parameters of a config, hub id or folder, counted without making any; None where it cannot be had."""
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.for_model(**model) if isinstance(model, dict) else AutoConfig.from_pretrained(model)
        with torch.device("meta"):
            return int(AutoModelForCausalLM.from_config(config).num_parameters())
    except (OSError, ValueError, KeyError):
        return None


def _speed() -> float:
    """Operations a second of a matrix product: the best of some tries, since others may use the machine."""
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    matrix = torch.rand(512, 512, device=device)
    best = math.inf
    for _ in range(30):
        start = time.monotonic()
        float((matrix @ matrix)[0, 0])
        best = min(best, time.monotonic() - start)
    return 2.0 * 512**3 / best
