"""The teacher learns the members."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from midistill_tasks.distill.data import Texts
from midistill_tasks.distill.dp.accounting import check_ready
from midistill_tasks.distill.dp.guarantee import MADE
from midistill_tasks.distill.fine_tune import fine_tuned_teacher
from midistill_tasks.study.folders import TEACHER, teacher_model
from midistill_tasks.study.graph import Part
from midistill_tasks.study.recipe import Study
from midistill_tasks.study.steps import Models, StudyStep, step
from midistill_tasks.study.texts import study_data, teachers_texts
from midistill_tasks.study.work import Work

if TYPE_CHECKING:
    from midistill_tasks.study.costs import Costs


@step("teacher", "train on the members")
class TeacherStep(StudyStep):
    """Only where the study has ``teacher.fine_tune``."""

    def parts(self, study: Study) -> Sequence[Part]:
        return [Part(TEACHER, needs=("data",))] if study.teacher.fine_tune else []

    def writes(self, study: Study, part: Part) -> Path:
        return Path(teacher_model(study)) / MADE

    def loads(self, study: Study, part: Part) -> Models:
        return {"teacher.model": (study.teacher.model, study.teacher.revision)} if study.teacher.model else {}

    def check(self, work: Work, left: Sequence[Part]) -> None:
        if work.study.teacher.dp:
            check_ready("teacher.dp")

    def cost(self, study: Study, part: Part, costs: Costs) -> float | None:
        return costs.training(costs.teacher)

    def run(self, work: Work, part: Part) -> None:
        make_teacher(work.study, teacher_model(work.study), teachers_texts(work.study))


def make_teacher(study: Study, folder: str, texts: Texts) -> None:
    """Trains the study's teacher on these texts into the folder, unless it is there."""
    if study.teacher.fine_tune:
        fine_tune = study.teacher.fine_tune.model_copy(update={"folder": folder})
        fine_tuned_teacher(study.teacher, fine_tune, study_data(study), texts, study.student)
