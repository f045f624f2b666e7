"""Which members the attacks find in the teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from midistill_tasks.distill.data import text_id
from midistill_tasks.distill.selection import choose_attacks, select, weak, write_selection
from midistill_tasks.errors import InputError, warn_once
from midistill_tasks.processes import first_alone
from midistill_tasks.results.reader import read_attacks, read_run
from midistill_tasks.results.run import AttackResult
from midistill_tasks.study.folders import TEACHER, results_folder, selection_folder
from midistill_tasks.study.graph import Part
from midistill_tasks.study.recipe import Study
from midistill_tasks.study.steps import StudyStep, step
from midistill_tasks.study.texts import logs_texts, study_data
from midistill_tasks.study.work import Work

if TYPE_CHECKING:
    from midistill_tasks.study.costs import Costs


@step("select", "select the vulnerable members")
class SelectStep(StudyStep):
    """As `midistill select`, where an arm chooses texts by it."""

    has_model = False

    def parts(self, study: Study) -> Sequence[Part]:
        needed = any(arm.selection for arm in study.arms.values())
        return [Part(TEACHER, needs=(f"evaluate:{TEACHER}",))] if needed else []

    def writes(self, study: Study, part: Part) -> Path:
        return selection_folder(study) / "selection.json"

    def cost(self, study: Study, part: Part, costs: Costs) -> float | None:
        return 0.0

    def run(self, work: Work, part: Part) -> None:
        first_alone(lambda: _select(work))


def _select(work: Work) -> None:
    study = work.study
    results = choose_attacks(_attacks(work), study.select.attacks)
    judged = next(iter(results.values())).by_id
    left_out = sum(text_id(text) not in judged for text in work.texts.members)
    if left_out:
        raise InputError(
            f"{results_folder(study, TEACHER)} was written by a version of midistill that left {left_out} members out,"
            " to balance the sides: remove that folder and run the study again, which judges them all"
        )
    for reason in filter(None, map(weak, results.values())):
        warn_once(f"selection: {reason}")
    selection = select(results, study.select.vote)
    how = {"vote": study.select.vote, "attacks": list(results)}
    write_selection(selection, selection_folder(study), how, texts=logs_texts(study))


def _attacks(work: Work) -> Mapping[str, AttackResult]:
    """On the teacher, with the texts, which its samples lack where the study keeps them out."""
    folder = results_folder(work.study, TEACHER)
    if logs_texts(work.study):
        return read_attacks([folder])
    texts = {text_id(text): text for text in (*work.texts.members, *work.texts.nonmembers)}
    found = read_run(folder).on(study_data(work.study).split)
    return {name: replace(result, texts=texts) for name, result in found.items()}
