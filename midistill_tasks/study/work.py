"""A study under way: its parts in their order, and what several of them share, made once."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from midistill_tasks.distill.data import Texts, texts_of
from midistill_tasks.distill.reading import Readings
from midistill_tasks.files import writing
from midistill_tasks.harness.options import parse_options
from midistill_tasks.recipes.wording import in_recipes_words
from midistill_tasks.splits import SPLITS
from midistill_tasks.splits.documents import Documents, documents
from midistill_tasks.study.evaluate import Harness
from midistill_tasks.study.folders import set_aside
from midistill_tasks.study.graph import Part, in_order
from midistill_tasks.study.recipe import Study
from midistill_tasks.study.steps import StudyStep, steps_of
from midistill_tasks.study.texts import study_data, study_options

logger = logging.getLogger(__name__)


class Work:
    """What a step is given to do its parts with."""

    def __init__(self, study: Study, states: Path | None = None) -> None:
        """Raises InputError where the parts wait for each other, or for something that there is not.

        Args:
            study: what to do.
            states: a folder for the teacher's hidden states, which all students share then.
        """
        self.study = study
        self.readings = Readings(states)
        self.steps = steps_of(study)
        named = [Part(part.name, part.needs, name) for name, step in self.steps.items() for part in step.parts(study)]
        self.parts: Sequence[Part] = in_order(named, self.steps)

    def step(self, part: Part) -> StudyStep:
        """Whose part it is."""
        return self.steps[part.step]

    def written(self, part: Part) -> Path:
        """What exists once it is done."""
        return self.step(part).writes(self.study, part)

    def done(self, part: Part) -> bool:
        """Whether it need not be run again."""
        path = self.written(part)
        with writing(path):
            return path.exists()

    def left(self, parts: Sequence[Part]) -> list[Part]:
        """Those of these parts that are to be run; where a model is to be made anew, its evaluations, too."""
        missing = [part for part in self.parts if not self.done(part)]
        anew = [each for part in missing for each in self.evaluations(part)]
        return [part for part in parts if part in missing or part in anew]

    def evaluations(self, made: Part) -> list[Part]:
        """Of the model, and of its checkpoints, that a part trains; none of a part that trains none."""
        trains = made.step in ("teacher", "train")
        return [part for part in self.parts if trains and part.step == "evaluate" and made.is_needed_by(part)]

    def make_way(self, part: Part) -> None:
        """Sets aside the figures of an earlier model in the place of the one that a part is about to train."""
        for other in filter(self.done, self.evaluations(part)):
            kept = set_aside(self.study, self.written(other))
            logger.info("%s: its model is trained anew; the figures of the earlier one are in %s", other.name, kept)

    @cached_property
    def harness(self) -> Harness:
        """Evaluates models on the study's tasks."""
        return Harness(self.study)

    @cached_property
    def documents(self) -> Documents:
        """The texts that are judged. As long as they are held, tasks that ask for the same ones do not load them."""
        split = SPLITS[study_data(self.study).split]
        with in_recipes_words(others="evaluate"):
            return documents(split, parse_options({"mia": study_options(self.study)}).of_split(split))

    @cached_property
    def texts(self) -> Texts:
        """Members and non-members for selection and students."""
        return texts_of(self.documents, study_data(self.study))
