"""A study from recipe to page; run again it goes on where it was."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from midistill_tasks.errors import InputError, nearest
from midistill_tasks.files import write_atomically
from midistill_tasks.processes import from_first, processes
from midistill_tasks.recipes.file import dump_recipe, find_recipe, read_yaml
from midistill_tasks.report.build import build, write
from midistill_tasks.report.page import Page
from midistill_tasks.results.roles import MANIFEST, read_group
from midistill_tasks.study.check import HASHES, STUDY, check, check_output, hashes
from midistill_tasks.study.evaluate import Harness
from midistill_tasks.study.recipe import Study
from midistill_tasks.study.steps import TEACHER, Step, results_folder, steps

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """A study that came to its end.

    Attributes:
        page: what the report says; None where one part was asked for.
        file: the report; None likewise.
        failed: part → why it has no result.
    """

    page: Page | None
    file: Path | None
    failed: Mapping[str, str]


def load_study(name: str, overrides: list[str]) -> Study:
    """Reads a study from a YAML file or by its shipped name; raises as `recipe_file.load_recipe`."""
    return read_yaml(find_recipe(name, studies=True), Study, overrides)


def run_study(study: Study, only: str | None = None, show_texts: bool = False) -> Outcome:
    """Does what is not done yet, then writes the report.

    Args:
        study: what to do.
        only: `TEACHER` (all that comes before the students) or ``ARM/SEED``: this part alone, without the report.
        show_texts: as for the report.

    Raises:
        InputError: as `study_check.check`; for a folder that holds another study, an unknown part, a part whose
            teacher is not there yet, or a teacher that fails. A student that fails stops nobody else.
    """
    check_output(study)
    harness = Harness(study)
    planned = steps(study, harness)
    chosen = planned if only is None else _part(planned, only)
    # Asked once and by one process: a slower one would find done what it has to take part in.
    done = from_first([step.done for step in chosen])
    check(study, [step for step, ready in zip(chosen, done, strict=True) if not ready], harness)
    _begin(study)
    if only is not None and all(done):
        logger.info("%s: done already", only)
    failed: dict[str, str] = {}
    for number, step in enumerate(chosen, 1):
        if done[number - 1] or step.part in failed:
            continue
        logger.info("[%d/%d] %s: %s", number, len(chosen), step.part, step.what)
        reason = _try(step)
        if reason:
            failed[step.part] = reason
    if only is not None or not processes().is_main_process:
        return Outcome(None, None, failed)
    root = Path(study.output)
    write_atomically(root / MANIFEST, (json.dumps(_manifest(study, failed), indent=2) + "\n").encode())
    page = build(read_group([root]), show_texts)
    return Outcome(page, write(page, root / "report"), failed)


def _begin(study: Study) -> None:
    """Makes the folder; what stands in it tells the next run that it goes on with the same study on the same texts."""
    processes().wait_for_everyone()  # who comes late must find the folder as it was
    if processes().is_main_process:
        path = Path(study.output) / STUDY
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, dump_recipe(study).encode())
        if not path.with_name(HASHES).is_file():
            write_atomically(path.with_name(HASHES), (json.dumps(hashes(study), indent=2) + "\n").encode())
    processes().wait_for_everyone()


def _part(planned: list[Step], only: str) -> list[Step]:
    chosen = [step for step in planned if step.part == only]
    if not chosen:
        parts = list(dict.fromkeys(step.part for step in planned))
        raise InputError(f"--only {only}: there is no such part{nearest(only, parts)}; parts: {', '.join(parts)}")
    missing = [step for step in planned if step.part == TEACHER and not step.done]
    if only != TEACHER and missing:
        raise InputError(f"--only {only}: the teacher is not ready ({missing[0].what}): run --only {TEACHER} first")
    return chosen


def _try(step: Step) -> str:
    """Does a step; why a student's failed, or "". Of several processes none can go on without the others."""
    start = time.monotonic()
    try:
        step.work()
    except Exception as error:
        if step.part == TEACHER or processes().num_processes > 1:
            raise
        reason = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
        logger.warning("%s: %s failed: %s", step.part, step.what, reason, exc_info=not isinstance(error, InputError))
        return f"{step.what}: {' '.join(reason.split())}"
    logger.info("%s: %s took %.0f s", step.part, step.what, time.monotonic() - start)
    return ""


def _manifest(study: Study, failed: Mapping[str, str]) -> dict[str, Any]:
    """For the report: where each model's results are, as far as they are there."""
    parts = {name: ["0"] for name in study.models} | {arm: list(map(str, study.seeds)) for arm in study.arms}
    arms = {
        name: {seed: place for seed in seeds if (Path(study.output) / (place := f"results/{name}/{seed}")).exists()}
        for name, seeds in parts.items()
    }
    return {
        "teacher": str(results_folder(study, TEACHER).relative_to(study.output)),
        "arms": arms,
        "controls": study.controls,
        "failed": [f"{part}, {reason}" for part, reason in failed.items()],
    }
