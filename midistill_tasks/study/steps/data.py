"""Documents become members and non-members."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from midistill_tasks.processes import first_alone
from midistill_tasks.study.folders import TEACHER, data_folder
from midistill_tasks.study.graph import Part
from midistill_tasks.study.recipe import Study
from midistill_tasks.study.steps import Models, StudyStep, step
from midistill_tasks.study.texts import DIVIDED, divide
from midistill_tasks.study.work import Work

if TYPE_CHECKING:
    from midistill_tasks.study.costs import Costs


@step("data", "divide the documents")
class DataStep(StudyStep):
    """See `divide`; a study of a split, or of files, has nothing to do here."""

    has_model = False

    def parts(self, study: Study) -> Sequence[Part]:
        return [Part(TEACHER)] if study.documents else []

    def writes(self, study: Study, part: Part) -> Path:
        return data_folder(study) / DIVIDED

    def loads(self, study: Study, part: Part) -> Models:
        return {"teacher.model": (study.teacher.model, study.teacher.revision)} if study.teacher.model else {}

    def cost(self, study: Study, part: Part, costs: Costs) -> float | None:
        return 0.0

    def run(self, work: Work, part: Part) -> None:
        if documents := work.study.documents:
            first_alone(lambda: divide(work.study, documents))
