"""Shadow models: teachers and students like the study's, on other draws of the same texts; see `study.shadows`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from midistill_tasks.study.graph import Part
from midistill_tasks.study.steps import Models, StudyStep, step

if TYPE_CHECKING:  # the study is made of its sections, of which this is one
    from midistill_tasks.study.costs import Costs
    from midistill_tasks.study.recipe import Study
    from midistill_tasks.study.work import Work

NAME = "shadow"


@step("shadows", "train and score a shadow model")
class ShadowsStep(StudyStep):
    """Of each shadow ``shadow/NUMBER`` is its teacher, ``shadow/NUMBER/ARM`` the student of an arm."""

    models: int = Field(16, ge=2, description="so many shadow teachers, each with a student an arm; may grow")

    def parts(self, study: Study) -> Sequence[Part]:
        numbers = [f"{NAME}/{number}" for number in range(self.models)]
        students = [Part(f"{of}/{arm}", needs=(f"shadows:{of}",)) for of in numbers for arm in study.arms]
        return [*(Part(of, needs=("data",)) for of in numbers), *students]

    def writes(self, study: Study, part: Part) -> Path:
        from midistill_tasks.study.shadows import results_of

        return results_of(study, *_number_and_arm(part))

    def loads(self, study: Study, part: Part) -> Models:
        return {"teacher.model": (study.teacher.model, study.teacher.revision)} if study.teacher.model else {}

    def check(self, work: Work, left: Sequence[Part]) -> None:
        from midistill_tasks.study.shadows import check_possible

        check_possible(work.study)

    def cost(self, study: Study, part: Part, costs: Costs) -> float | None:
        from midistill_tasks.study.shadows import passes

        arm = _number_and_arm(part)[1]
        of, name = (costs.student, "student") if arm else (costs.teacher, "teacher")
        training, scoring = costs.training(of), costs.scoring(name, passes(study))
        return None if training is None or scoring is None else training + scoring

    def run(self, work: Work, part: Part) -> None:
        from midistill_tasks.study.shadows import make

        make(work, *_number_and_arm(part))


def _number_and_arm(part: Part) -> tuple[int, str | None]:
    _, number, *arm = part.name.split("/")
    return int(number), arm[0] if arm else None
