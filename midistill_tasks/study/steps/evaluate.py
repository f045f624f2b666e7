"""The harness attacks a model and measures its utility."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from midistill_tasks.attacks import ATTACKS
from midistill_tasks.processes import first_alone
from midistill_tasks.study.folders import TEACHER, results_folder, student_folder, teacher_model
from midistill_tasks.study.frontier import fewer, stopped, vanilla
from midistill_tasks.study.graph import Part
from midistill_tasks.study.recipe import Study
from midistill_tasks.study.steps import Models, StudyStep, step
from midistill_tasks.study.work import Work

if TYPE_CHECKING:
    from midistill_tasks.study.costs import Costs


@step("evaluate", "evaluate")
class EvaluateStep(StudyStep):
    """The teacher, the ready-made models and the students, by the study's section ``evaluate``."""

    def parts(self, study: Study) -> Sequence[Part]:
        ready = [Part(f"{name}/0", needs=("data",)) for name in study.models]
        students = [f"{arm}/{seed}" for arm in study.arms for seed in study.seeds]
        students += [name for seed in study.seeds for name in fewer(study, seed)]
        made = [Part(name, needs=(f"train:{name}",)) for name in students]
        stops = [(name, seed) for seed in study.seeds for name in stopped(study, seed)]
        made += [Part(name, needs=(f"train:{vanilla(study)}/{seed}",)) for name, seed in stops]
        return [Part(TEACHER, needs=("data", "teacher")), *ready, *made]

    def writes(self, study: Study, part: Part) -> Path:
        return results_folder(study, part.name)

    def loads(self, study: Study, part: Part) -> Models:
        found: dict[str, tuple[str, str | None]] = {}
        arm = part.name.removesuffix("/0")
        if part.name == TEACHER and study.teacher.model and not study.teacher.fine_tune:
            found["teacher.model"] = (study.teacher.model, study.teacher.revision)
        elif arm in study.models:
            found[f"models.{arm}"] = (study.models[arm], None)
        if (reference := study.evaluate.reference_model) is not None:
            found["evaluate.reference"] = reference
        return found

    def check(self, work: Work, left: Sequence[Part]) -> None:
        work.harness.check_tasks()

    def cost(self, study: Study, part: Part, costs: Costs) -> float | None:
        views = {view for attack in study.evaluate.chosen for view in ATTACKS[attack].views}
        arm = part.name.rpartition("/")[0]
        name = TEACHER if part.name == TEACHER else arm if arm in study.models else "student"
        return costs.scoring(name, passes=len(views) + 0.5)  # the half: perplexity on one side

    def run(self, work: Work, part: Part) -> None:
        """Only models of transformers are shared among processes; what another backend runs, one process asks for."""
        model, revision = self._model(work.study, part.name)
        folder = self.writes(work.study, part)
        _ = work.documents  # held from here on, so that the tasks of all models find them loaded
        if work.study.evaluate.backend not in ("hf", "hf-mlm"):
            first_alone(lambda: work.harness.evaluate(model, folder, revision))
        else:
            work.harness.evaluate(model, folder, revision)

    def _model(self, study: Study, name: str) -> tuple[str, str | None]:
        """Hub id or folder, and revision."""
        if name == TEACHER:
            return teacher_model(study), None if study.teacher.fine_tune else study.teacher.revision
        return study.models.get(name.removesuffix("/0")) or str(student_folder(study, name)), None
