"""What a study does: each step says its parts, what they write, load and cost, and does them.

    @step("shadow", "train models that never saw the members")
    class Shadow(StudyStep):
        models: int = Field(4, ge=1, description="how many")

        def parts(self, study):
            return [Part(f"shadow/{number}", needs=("data",)) for number in range(self.models)]

The built-in ones stand in `BUILT_IN`, and read sections that every study has. One of `OPTIONAL`, or of another package
(named by its entry point in the group ``midistill.steps``), has fields, which are the study's section of its name,
without which it rests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypeVar

from midistill_tasks.options import Strict
from midistill_tasks.registry import Registry
from midistill_tasks.study.graph import Part

if TYPE_CHECKING:
    from midistill_tasks.study.costs import Costs
    from midistill_tasks.study.recipe import Study
    from midistill_tasks.study.work import Work

Models = Mapping[str, "tuple[str, str | None]"]
"""Key of the recipe → hub id or folder, and revision."""


class StudyStep(Strict):
    """A kind of work. A part of it is done once what it writes exists, so that must be there whole or not at all."""

    key: ClassVar[str]
    """The study's section with its fields; set by `step`, like the next one."""
    what: ClassVar[str]
    has_model: ClassVar[bool] = True
    """Whether its parts load one, and so take a GPU where there is one, and the memory for it."""

    def parts(self, study: Study) -> Sequence[Part]:
        """What there is to do in this study."""
        raise NotImplementedError(f"{type(self).__name__} does not say its parts")

    def writes(self, study: Study, part: Part) -> Path:
        """The file or folder that exists once the part is done."""
        raise NotImplementedError(f"{type(self).__name__} does not say what it writes")

    def run(self, work: Work, part: Part) -> None:
        """Does it; every process of a `torchrun` calls this.

        Raises:
            InputError: for what the user can mend.
        """
        raise NotImplementedError(f"{type(self).__name__} does nothing")

    def loads(self, study: Study, part: Part) -> Models:
        """The models that are read; they are looked for before anything is done."""
        return {}

    def check(self, work: Work, left: Sequence[Part]) -> None:
        """Looks, before anything is done, at what else the parts that are left will need.

        Raises:
            InputError: they could not be done.
        """

    def cost(self, study: Study, part: Part, costs: Costs) -> float | None:
        """Seconds, about; None = not known beforehand."""
        return None


BUILT_IN = ("data", "teacher", "evaluate", "select", "train")
OPTIONAL = ("shadows",)
STEPS: Registry[type[StudyStep]] = Registry(
    "step of a study", "midistill.steps", {name: f"{__name__}.{name}" for name in (*BUILT_IN, *OPTIONAL)}
)

Kind = TypeVar("Kind", bound=type[StudyStep])


def step(name: str, what: str) -> Callable[[Kind], Kind]:
    """Registers a step under its name, with the words for it in plan and log."""

    def register(kind: Kind) -> Kind:
        kind.key, kind.what = name, what
        STEPS.register(name, kind, kind.__module__)
        return kind

    return register


def steps_of(study: Study) -> dict[str, StudyStep]:
    """The steps of a study by name; those with a section of their own where it has that."""
    others = {name: getattr(study, name) for name in STEPS if name not in BUILT_IN}
    return {name: STEPS[name]() for name in BUILT_IN} | {name: chosen for name, chosen in others.items() if chosen}
