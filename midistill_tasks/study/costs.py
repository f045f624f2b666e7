"""What the parts of a study cost, by steps of its own that are made beforehand (`distill.costs.timing`)."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from midistill_tasks.distill.costs.forecast import START, Training, distillation, drawn_teacher, fine_tuning
from midistill_tasks.distill.costs.timing import peak_memory, seconds_a_token
from midistill_tasks.distill.data import Texts, encode, given_texts
from midistill_tasks.errors import InputError
from midistill_tasks.models.loading import positions_of
from midistill_tasks.recipes.schema import Teacher
from midistill_tasks.study.folders import TEACHER, data_folder
from midistill_tasks.study.frontier import arm_of
from midistill_tasks.study.graph import Part
from midistill_tasks.study.recipe import Arm
from midistill_tasks.study.steps.train import student_recipe
from midistill_tasks.study.texts import DIVIDED, divided_texts, study_data, teachers_texts
from midistill_tasks.study.work import Work

logger = logging.getLogger(__name__)

STUDENT = "student"


@dataclass
class Costs:
    """Seconds on this machine; what is not known beforehand is not there.

    Attributes:
        teacher: its fine-tuning.
        student: the training of one, without interventions and on all members.
        passes: a forward of all judged texts, by what is evaluated: "teacher", "student" or a ready-made one's name.
        teacher_parameters: 0 where they are not known.
        memory: the most bytes that this process took; 0 = not known.
    """

    teacher: Training | None = None
    student: Training | None = None
    passes: dict[str, float] = field(default_factory=dict)
    teacher_parameters: int = 0
    memory: int = 0

    def training(self, of: Training | None) -> float | None:
        """Of a whole training."""
        return None if of is None else START + sum(of.seconds.values())

    def scoring(self, name: str, passes: float) -> float | None:
        """Of so many forwards of the judged texts."""
        return START + passes * self.passes[name] if name in self.passes else None


def costs_of(work: Work, left: Sequence[Part]) -> Costs:
    """Of the parts that are left; raises InputError for files that cannot be read."""
    study, found = work.study, Costs()
    texts = _texts(work) if any(part.step in ("teacher", "train", "evaluate", "shadows") for part in left) else None
    if texts is None or study.evaluate.backend != "hf":  # a masked model reads a text once a token
        return found
    data, judged = study_data(study), texts.of_study.members + texts.of_study.nonmembers
    with _where_it_is_to_be_had():
        model, tokenizer, to_tune = drawn_teacher(study.teacher, data, texts.of_teacher)
        found.teacher_parameters = model.num_parameters()
        if to_tune or any(part.step == "shadows" for part in left):
            found.teacher = fine_tuning(study.teacher, model, tokenizer, data, texts.of_teacher)
        rows = _rows(tokenizer, model, judged)
        found.passes[TEACHER] = _tokens(rows) * seconds_a_token(model, rows)
        if of_arms := next(filter(None, (_student(work, part) for part in left)), None):
            arms = {**study.arms, arm_of(of_arms): Arm()}
            recipe = student_recipe(study.model_copy(update={"arms": arms}), of_arms)
            on = encode(texts.of_students, tokenizer, data.max_length)
            model = model.eval().requires_grad_(False)
            found.student = distillation(recipe, model, tokenizer, on, texts.of_study, shared=True)
            found.passes[STUDENT] = _tokens(rows) * found.student.forward
    for name, place in study.models.items():
        if any(part.name == f"{name}/0" for part in left):
            with _where_it_is_to_be_had():
                model, tokenizer, _ = drawn_teacher(Teacher(model=place), data, texts.of_study)
                rows = _rows(tokenizer, model, judged)
                found.passes[name] = _tokens(rows) * seconds_a_token(model, rows)
    found.memory = peak_memory()
    return found


def _student(work: Work, part: Part) -> str | None:
    """The student ``ARM/SEED`` that stands for the one that this part makes; None where it makes none."""
    arm = part.name.split("/")[-1] if part.step == "shadows" else arm_of(part.name)
    return f"{arm}/{work.study.seeds[0]}" if arm in work.study.arms else None


@contextmanager
def _where_it_is_to_be_had() -> Iterator[None]:
    """A model whose class the library cannot make of its config leaves its costs unknown: the plan goes on."""
    try:
        yield
    except (InputError, ValueError, KeyError, OSError) as error:
        logger.debug("not timed: %s", error)


@dataclass(frozen=True)
class _Texts:
    of_study: Texts
    of_teacher: Texts
    of_students: list[str]


def _texts(work: Work) -> _Texts | None:
    """None where they are not to be had without a download."""
    study, data = work.study, study_data(work.study)
    if study.documents and not (data_folder(study) / DIVIDED).is_file():
        sides = divided_texts(study, study.documents)
        judged, trained = Texts(sides["members"], sides["nonmembers"]), sides.get("train")
        of_teacher = Texts(trained, judged.members + judged.nonmembers) if trained else judged
        return _Texts(judged, of_teacher, trained or judged.members)
    try:
        texts = work.texts
    except InputError:
        if study.documents or data.split == "files":
            raise
        return None
    return _Texts(texts, teachers_texts(study), given_texts(data, texts)[0])


def _rows(tokenizer: Any, model: Any, texts: list[str]) -> list[list[int]]:
    """Whole texts, as far as the model reads them at once: what is beyond is read in further windows, as long."""
    return encode(texts, tokenizer, positions_of(model.config) or sys.maxsize).ids


def _tokens(rows: list[list[int]]) -> int:
    return sum(map(len, rows))
