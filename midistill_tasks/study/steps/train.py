"""The students, one an arm and seed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from midistill_tasks.distill.dp.guarantee import check_run
from midistill_tasks.distill.run import run_recipe
from midistill_tasks.distill.run_folder import RECIPE, RECORD
from midistill_tasks.errors import InputError
from midistill_tasks.processes import first_alone
from midistill_tasks.recipes.privacy import check_dp
from midistill_tasks.recipes.schema import Data, Recipe
from midistill_tasks.splits.sources import local_files
from midistill_tasks.study.folders import set_aside, student_folder, teacher_model
from midistill_tasks.study.frontier import arm_of, fewer, stopped, vanilla
from midistill_tasks.study.graph import Part
from midistill_tasks.study.recipe import Study, with_changes
from midistill_tasks.study.steps import Models, StudyStep, step
from midistill_tasks.study.texts import study_data
from midistill_tasks.study.work import Work

if TYPE_CHECKING:
    from midistill_tasks.study.costs import Costs


@step("train", "train")
class TrainStep(StudyStep):
    """Distils them, as `midistill distill` would."""

    def parts(self, study: Study) -> Sequence[Part]:
        of_arms = [
            Part(f"{arm}/{seed}", needs=("data", "teacher", *(("select",) if interventions.selection else ())))
            for arm, interventions in study.arms.items()
            for seed in study.seeds
        ]
        return [*of_arms, *(Part(name, ("data", "teacher")) for seed in study.seeds for name in fewer(study, seed))]

    def writes(self, study: Study, part: Part) -> Path:
        return student_folder(study, part.name) / RECORD

    def loads(self, study: Study, part: Part) -> Models:
        found: dict[str, tuple[str, str | None]] = {}
        student = study.student
        if study.teacher.model and not study.teacher.fine_tune:
            found["teacher.model"] = (study.teacher.model, study.teacher.revision)
        if student and student.checkpoint:
            found["student.checkpoint"] = (student.checkpoint, None)
        if student and isinstance(student.config, str):
            found["student.config"] = (student.config, None)
        return found

    def check(self, work: Work, left: Sequence[Part]) -> None:
        for part in left:
            arm = _arm(part.name)[0]
            try:
                recipe = student_recipe(work.study, part.name)
                check_dp(recipe, work.study.teacher)
            except ValidationError as error:
                said = error.errors()[0]["msg"].removeprefix("Value error, ")
                raise InputError(f"arms.{arm}: {said}") from None
            except ValueError as error:
                raise InputError(f"arms.{arm}: {error}") from None
            check_run(recipe)
            _check_files(arm, recipe.data)

    def cost(self, study: Study, part: Part, costs: Costs) -> float | None:
        own, whole = study.arms[arm_of(part.name)].data, costs.training(costs.student)
        return None if whole is None or own else whole * fewer(study, _arm(part.name)[1]).get(part.name, 1.0)

    def run(self, work: Work, part: Part) -> None:
        resume = (student_folder(work.study, part.name) / RECIPE).is_file()
        arm, seed = _arm(part.name)
        stops = stopped(work.study, seed) if arm == vanilla(work.study) else {}
        folders = {student_folder(work.study, name): share for name, share in stops.items()}
        if not resume:  # the training keeps those that are there, as a run that goes on needs them
            first_alone(lambda: _set_aside(work.study, folders))
        recipe = student_recipe(work.study, part.name)
        if work.study.arms[arm_of(part.name)].data:  # those of the study are looked at when it begins
            _check_same_texts(work, recipe, arm)
        run_recipe(recipe, resume, work.texts, folders, work.readings)


def _check_same_texts(work: Work, recipe: Recipe, arm: str) -> None:
    """Looks whether the arm's students that are there learnt from the texts of its own that are there now.

    Raises:
        InputError: they have changed since, so that the arm's seeds would differ in more than the seed.
    """
    now = work.readings.of(recipe, work.texts).hashes["texts"]
    for path in sorted(Path(recipe.output).parent.glob(f"*/{RECORD}")):
        if json.loads(path.read_text(encoding="utf-8"))["hashes"]["texts"] != now:
            raise InputError(
                f"arms.{arm}.data: {path.parent} was trained on other texts than are there now: restore them as they"
                " were, or give the arm another name"
            )


def _set_aside(study: Study, folders: Iterable[Path]) -> None:
    for folder in folders:
        if folder.exists():
            set_aside(study, folder)


def _check_files(arm: str, data: Data) -> None:
    """Those of an arm's own."""
    own = {
        "distil_on": data.distil_on,
        "generate_from.beginnings": data.generate_from and data.generate_from.beginnings,
    }
    for key, source in own.items():
        for file in local_files(source) if source else ():
            if not Path(file).expanduser().exists():
                raise InputError(f"arms.{arm}.data.{key}: there is no file '{file}'")


def student_recipe(study: Study, name: str) -> Recipe:
    """What `midistill distill` would be given for the student ``ARM/SEED``; raises pydantic's error for no recipe."""
    seed = _arm(name)[1]
    share = fewer(study, seed).get(name)
    own, student = study.arms[arm_of(name)], study.student.model_dump() if study.student else None
    if student and own.lora:
        student["lora"] = own.lora.model_dump()
    made = {"model": teacher_model(study), "config": None, "fine_tune": None, "dp": None}
    teacher = study.teacher.model_copy(update=made)
    return Recipe.model_validate(
        {
            "output": str(student_folder(study, name)),
            "seed": seed,
            "teacher": teacher,
            "student": student,
            "data": with_changes(study_data(study), own.data.model_dump() if own.data else {}),
            "loss": with_changes(study.loss, own.loss),
            "interventions": own.interventions if share is None else {"random_keep": share},
            "train": with_changes(study.train, own.train),
        }
    )


def _arm(name: str) -> tuple[str, int]:
    arm, _, seed = name.rpartition("/")
    return arm, int(seed)
