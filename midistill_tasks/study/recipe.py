"""A study: one teacher, the students made from it in several ways and with several seeds, and what is measured."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import Field, ValidationError, create_model, field_validator, model_validator

from midistill_tasks.errors import nearest
from midistill_tasks.options import Strict
from midistill_tasks.recipes.data import GenerateFrom
from midistill_tasks.recipes.interventions import needs_selection
from midistill_tasks.recipes.schema import Data, Interventions, Lora, Loss, Student, Teacher, Train
from midistill_tasks.splits.sources import FORMS, Source
from midistill_tasks.study.executors.resources import Resources
from midistill_tasks.study.frontier import Frontier, vanilla
from midistill_tasks.study.options import Evaluate, known_attacks
from midistill_tasks.study.steps import BUILT_IN, STEPS

Section = TypeVar("Section", bound=Strict)
SECTIONS = ("data", "loss", "train")
"""Of a recipe, of which an arm may have keys of its own."""


class Documents(Strict):
    """Texts made here: the beginning of each document of a file, members by a fair coin of its own."""

    path: Source = Field(description=f"one document a row: {FORMS}")
    column: str = Field("text", description="that holds the text")
    tokens: int = Field(
        128, ge=2, description="of the teacher's tokenizer, kept of a document, cut back to whole words"
    )
    seed: int = Field(0, ge=0, description="of the coins")
    null_control: bool = Field(
        False,
        description="control: half of the documents train teacher and students, and are not judged; the members are "
        "drawn by coins from the other half, which nobody sees, so there is nothing to find",
    )


class Select(Strict):
    """Which members count as vulnerable, for the interventions that choose texts (see `midistill select`)."""

    attacks: list[str] = Field(["loss"], min_length=1, description="on the teacher")
    vote: Literal["any", "majority", "all"] = Field("majority", description="of several attacks")

    @field_validator("attacks")
    @classmethod
    def _known(cls, names: list[str]) -> list[str]:
        return known_attacks(names)


class ArmData(Strict):
    """As in a recipe."""

    distil_on: Source | None = Field(None, description="these texts, of which the study's own are left out")
    generate_from: GenerateFrom | None = Field(None, description="what the teacher writes; 'teacher' = the defaults")


class Arm(Interventions):
    """What is special about the students of an arm."""

    lora: Lora | None = Field(None, description="trains adapters in this arm, in place of student.lora")
    data: ArmData | None = Field(None, description="what its students see instead of the members")
    loss: dict[str, Any] = Field(default_factory=dict, description="keys of loss that differ in this arm")
    train: dict[str, Any] = Field(default_factory=dict, description="keys of train that differ in this arm")

    @property
    def interventions(self) -> Interventions:
        """Those, as a recipe has them."""
        return Interventions.model_validate(self.model_dump(exclude={"lora", *SECTIONS}))

    @property
    def changes(self) -> dict[str, Any]:
        """What it has of its own beside interventions: nothing, of a vanilla arm."""
        return {name: value for name in ("lora", *SECTIONS) if (value := getattr(self, name))}


class _Study(Strict):
    output: str = Field(description="folder of the study; run it again to go on")
    seeds: list[int] = Field([0], min_length=1, description="one student an arm and seed; one proves nothing")
    teacher: Teacher = Field(description="as in a recipe of `midistill distill`; fine_tune trains it on the members")
    student: Student | None = Field(None, description="as in a recipe, for the arms")
    data: Data | None = Field(None, description="as in a recipe: a split, or files")
    documents: Documents | None = Field(None, description="instead of data")
    loss: Loss = Field(default_factory=Loss, description="as in a recipe")
    train: Train = Field(default_factory=Train, description="as in a recipe")
    arms: dict[str, Arm] = Field(default_factory=dict, description="name: interventions, as in a recipe, or lora")
    models: dict[str, str] = Field(default_factory=dict, description="name: a ready-made student, as teacher.model")
    controls: dict[str, str] = Field(default_factory=dict, description="arm: the arm that it is to be read against")
    frontier: Frontier | None = Field(
        None, description="hold each arm against vanilla students of its own perplexity, too; {} takes the defaults"
    )
    select: Select = Field(default_factory=Select)
    evaluate: Evaluate = Field(default_factory=Evaluate)
    resources: Resources = Field(default_factory=Resources, description="for --executor; changes no figure")

    @model_validator(mode="before")
    @classmethod
    def _fill_in_folders(cls, given: Any) -> Any:
        """The folders that a recipe asks for are the study's own."""
        if not isinstance(given, dict) or not isinstance(given.get("output"), str):
            return given
        output, filled = given["output"], dict(given)
        teacher = given.get("teacher")
        if isinstance(teacher, dict) and isinstance(teacher.get("fine_tune"), dict):
            filled["teacher"] = {**teacher, "fine_tune": {"folder": f"{output}/teacher", **teacher["fine_tune"]}}
        arms = given.get("arms")
        if isinstance(arms, dict):
            filled["arms"] = {name: _with_folders(arm, output) for name, arm in arms.items()}
        return filled

    @model_validator(mode="after")
    def _possible(self) -> _Study:
        if (self.data is None) == (self.documents is None):
            raise ValueError("give exactly one of 'data' and 'documents'")
        if self.data and self.data.split == "files" and not self.data.nonmembers:
            raise ValueError("data: a study attacks its models: give 'nonmembers', too")
        if not (self.arms or self.models):
            raise ValueError("give 'arms' (students to train), or 'models' (ready-made ones), or both")
        if self.arms and self.student is None:
            raise ValueError("'arms' need 'student', the model to train (see `midistill recipes`)")
        if self.teacher.model is None and self.teacher.fine_tune is None:
            raise ValueError("teacher: a study evaluates its teacher: give 'model', or 'config' with 'fine_tune'")
        if self.documents and self.documents.null_control and any(arm.selection for arm in self.arms.values()):
            raise ValueError(
                "documents.null_control: no member was seen, so none is vulnerable: remove the arms that choose texts"
            )
        if self.documents and self.documents.null_control and (self.teacher.dp or self.train.dp):
            raise ValueError("documents.null_control: no member is seen, so dp has nothing to protect: remove dp")
        if self.frontier and vanilla(self) is None:  # type: ignore[arg-type]
            raise ValueError("frontier: no arm is without interventions: add one, such as 'vanilla: {}'")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds: give each seed once")
        _check_names(self)
        _check_changes(self)
        return self


def _with_folders(arm: Any, output: str) -> Any:
    if not isinstance(arm, dict):
        return {} if arm is None else arm
    filled = {"selection": f"{output}/selection", **arm} if needs_selection(arm) else dict(arm)
    data = arm.get("data")
    writes = data.get("generate_from") if isinstance(data, dict) else None
    if writes == "teacher" or isinstance(writes, dict):
        own = writes if isinstance(writes, dict) else {}
        filled["data"] = {**arm["data"], "generate_from": {"folder": f"{output}/generated", **own}}
    return filled


def with_changes(section: Section, changes: Mapping[str, Any]) -> Section:
    """The section of a recipe with an arm's own keys; raises pydantic's error for what is none."""
    return type(section).model_validate({**section.model_dump(), **changes})


def _check_changes(study: _Study) -> None:
    for name, arm in study.arms.items():
        for key, section in (("loss", study.loss), ("train", study.train)):
            try:
                with_changes(section, getattr(arm, key))
            except ValidationError as error:
                found = error.errors()[0]
                at = ".".join(map(str, (f"arms.{name}.{key}", *found["loc"])))
                known = type(section).model_fields
                if found["type"] == "extra_forbidden":
                    raise ValueError(
                        f"'{at}' is no option{nearest(str(found['loc'][-1]), known)}; '{key}' knows {', '.join(known)}"
                    ) from None
                raise ValueError(f"{at}: {found['msg'].removeprefix('Value error, ')}") from None


def _lora(study: _Study) -> Lora | None:
    return study.student.lora if study.student else None


def _check_names(study: _Study) -> None:
    names = [*study.arms, *study.models]
    for name in names:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name) or name == "teacher":
            raise ValueError(f"'{name}' cannot name an arm: take letters, digits, '_', '-' and '.', and not 'teacher'")
    if len(set(names)) < len(names):
        raise ValueError(f"'{next(name for name in study.models if name in study.arms)}' names an arm and a model")
    done: dict[str, str] = {}
    for name, arm in study.arms.items():
        other = done.setdefault(
            repr(([each.keys() for each in arm.chosen], {"lora": _lora(study), **arm.changes})), name
        )
        if other != name:
            raise ValueError(
                f"arms: '{other}' and '{name}' are equal, so their students would be: remove one, or change it"
            )
    for treated, control in study.controls.items():
        for name in (treated, control):
            if name not in names:
                raise ValueError(f"controls: there is no arm '{name}'{nearest(name, names)}; arms: {', '.join(names)}")


def _sections() -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Of the steps that have one of their own."""
    for name in STEPS:
        if name not in BUILT_IN and name not in _Study.model_fields:
            yield name, (STEPS[name] | None, Field(None, description=STEPS[name].what))


if TYPE_CHECKING:

    class Study(_Study):
        """The study, with the sections of the steps."""

else:
    Study = create_model("Study", __base__=_Study, __doc__="A whole study.", **dict(_sections()))
