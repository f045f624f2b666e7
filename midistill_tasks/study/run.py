"""A study from recipe to page; run again it goes on where it was."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from midistill_tasks.distill.run_folder import RECORD
from midistill_tasks.errors import InputError, nearest
from midistill_tasks.files import write_atomically
from midistill_tasks.locks import held
from midistill_tasks.models.sharded import check_launcher, refuse_under_fsdp
from midistill_tasks.processes import by_first, first_alone, from_first, processes
from midistill_tasks.recipes.file import dump_recipe, find_recipe, read_yaml
from midistill_tasks.report.build import build, write
from midistill_tasks.report.machine import keep_json
from midistill_tasks.report.page import Page
from midistill_tasks.results.roles import MANIFEST, Trained, read_group
from midistill_tasks.study.check import HASHES, STUDY, check, check_output, hashes
from midistill_tasks.study.folders import TEACHER, results_folder, states_folder, student_folder
from midistill_tasks.study.frontier import places as frontier_places
from midistill_tasks.study.graph import Part, all_needs
from midistill_tasks.study.recipe import Study
from midistill_tasks.study.shadows import places as shadow_places
from midistill_tasks.study.work import Work

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


Elsewhere = Callable[[Work, list[Part]], dict[str, str]]
"""Does the parts of a study that are left in other processes; part → why it has no result."""


def run_study(
    study: Study, only: str | None = None, show_texts: bool = False, elsewhere: Elsewhere | None = None
) -> Outcome:
    """Does what is not done yet, then writes the report.

    Args:
        study: what to do.
        only: `TEACHER` (all that comes before the students) or ``ARM/SEED``, or a finer ``step:name``, or several of
            them with commas between: these parts alone, without the report.
        show_texts: as for the report.
        elsewhere: what does them, in place of this process (`executors.drive`).

    Raises:
        InputError: as `study_check.check`; for a folder that holds another study or that another process is at work
            on, an unknown part, a part whose teacher is not there yet, or a teacher that fails. A student that fails
            stops nobody else.
    """
    check_launcher()
    refuse_under_fsdp("a study, whose evaluations take whole models,")
    check_output(study)
    if only is not None:  # each in a process of its own, which hold what they write
        return _run(study, only, show_texts, None)
    with by_first(lambda: held(Path(study.output), "output")):
        return _run(study, only, show_texts, elsewhere)


def _run(study: Study, only: str | None, show_texts: bool, elsewhere: Elsewhere | None) -> Outcome:
    check_output(study)  # as it was found before, unless another process was at work there
    work = Work(study, states_folder(study))
    chosen = work.parts if only is None else _named(work, only)
    # Asked once and by one process: a slower one would find done what it has to take part in.
    asked = from_first([part.key for part in work.left(chosen)])
    left = [part for part in chosen if part.key in asked]
    check(work, left)
    _begin(study)
    if only is not None and not left:
        logger.info("%s: done already", only)
    failed = _here(work, chosen, left) if elsewhere is None else elsewhere(work, left)
    if only is None:  # else other processes may be at it
        work.readings.clear()
    return _report(study, failed, only, show_texts)


def _here(work: Work, chosen: Sequence[Part], left: Sequence[Part]) -> dict[str, str]:
    """Does the parts that are left, one after another in this process; name → why one has no result."""
    failed: dict[Part, str] = {}
    for part in left:
        if any(other in failed for other in all_needs(part, work.parts)):
            continue
        if from_first(work.done(part)):  # by another process, meanwhile
            continue
        logger.info("[%d/%d] %s: %s", chosen.index(part) + 1, len(chosen), part.name, work.step(part).what)
        reason = _try(work, part)
        if reason:
            failed[part] = reason
    return {part.name: reason for part, reason in failed.items()}


def _report(study: Study, failed: Mapping[str, str], only: str | None, show_texts: bool) -> Outcome:
    if only is not None or not processes().is_main_process:
        return Outcome(None, None, failed)
    check_output(study)  # one part alone may have been run by another recipe meanwhile
    root = Path(study.output)
    write_atomically(root / MANIFEST, json.dumps(_manifest(study, failed), indent=2) + "\n")
    group = read_group([root])
    page = build(group, show_texts)
    keep_json(page, group, root / "report")
    return Outcome(page, write(page, root / "report"), failed)


def _begin(study: Study) -> None:
    """Makes the folder; what stands in it tells the next run that it goes on with the same study on the same texts."""
    processes().wait_for_everyone()  # who comes late must find the folder as it was
    if processes().is_main_process:
        path = Path(study.output) / STUDY
        write_atomically(path, dump_recipe(study))
        if not path.with_name(HASHES).is_file():
            write_atomically(path.with_name(HASHES), json.dumps(hashes(study), indent=2) + "\n")
    processes().wait_for_everyone()


def _named(work: Work, only: str) -> list[Part]:
    """The parts of these names, or ``step:name``s; what they need of others must be there."""
    names = list(dict.fromkeys(part.name for part in work.parts))
    keys = [part.key for part in work.parts]
    asked = [only] if only in names else only.split(",")
    for name in asked:
        if name not in (*names, *keys):
            close = nearest(name, keys if ":" in name else names)
            raise InputError(
                f"--only {name}: there is no such part{close}; parts: {', '.join(names)}, each also by steps, such as"
                f" {keys[-1]}"
            )
    chosen = [part for part in work.parts if part.name in asked or part.key in asked]
    for part in chosen:
        for other in all_needs(part, work.parts):
            if other not in chosen and not work.done(other):
                what = work.step(other).what
                raise InputError(f"--only {only}: {other.name} is not ready ({what}): run --only {other.name} first")
    return chosen


def _try(work: Work, part: Part) -> str:
    """Does a part; why a student's failed, or "". Of several processes none can go on without the others."""
    start, what = time.monotonic(), work.step(part).what
    try:
        first_alone(lambda: work.make_way(part))
        work.step(part).run(work, part)
    except Exception as error:
        if part.name == TEACHER or processes().num_processes > 1:
            raise
        reason = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
        logger.warning("%s: %s failed: %s", part.name, what, reason, exc_info=not isinstance(error, InputError))
        return f"{what}: {' '.join(reason.split())}"
    logger.info("%s: %s took %.0f s", part.name, what, time.monotonic() - start)
    return ""


def _manifest(study: Study, failed: Mapping[str, str]) -> dict[str, Any]:
    """For the report: where each model's results are, as far as they are there."""
    parts = {name: ["0"] for name in study.models} | {arm: list(map(str, study.seeds)) for arm in study.arms}
    arms = {
        name: {seed: place for seed in seeds if (Path(study.output) / (place := f"results/{name}/{seed}")).exists()}
        for name, seeds in parts.items()
    }
    beside = {"frontier": frontier_places(study, student_folder(study, "."))} if study.frontier else {}
    return {
        "teacher": str(results_folder(study, TEACHER).relative_to(study.output)),
        "arms": arms,
        "controls": study.controls,
        "failed": [f"{part}, {reason}" for part, reason in failed.items()],
        "trained": {arm: _trained(study, arm, list(arms[arm])) for arm in study.arms},
        **beside,
        **shadow_places(study),
    }


def _trained(study: Study, arm: str, seeds: list[str]) -> dict[str, Any]:
    """Per seed what its student was trained on: what an arm and its control should differ in once."""
    found = {}
    for seed in seeds:
        record = json.loads((student_folder(study, f"{arm}/{seed}") / RECORD).read_text(encoding="utf-8"))
        counts = {"texts": record["counts"].get("trained_on"), "tokens": record["counts"].get("tokens")}
        of_dp = {"guarantee": record["dp"]["guarantee"]} if record.get("dp") else {}
        found[seed] = counts | of_dp | {name: record[name] for name in Trained.model_fields if name in record}
    return found
