"""The study's section of its evaluations: a key for each option of attacks and run, and a section an attack."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    create_model,
    field_validator,
    model_serializer,
    model_validator,
)

from midistill_tasks.attacks import ATTACKS
from midistill_tasks.errors import InputError, nearest
from midistill_tasks.harness.options import RunOptions, parse_options
from midistill_tasks.options import Strict, annotated, model_of
from midistill_tasks.recipes.data import Data
from midistill_tasks.splits.options import TextOptions


def known_attacks(names: list[str]) -> list[str]:
    """The names; raises ValueError for one that no attack has."""
    for name in names:
        if name not in ATTACKS:
            raise ValueError(f"there is no attack '{name}'{nearest(name, ATTACKS)}; attacks: {', '.join(ATTACKS)}")
    return names


class _Section(Strict):
    attacks: list[str] | None = Field(None, description="all by default; ref only where there is a reference")
    tasks: list[str] = Field(default_factory=list, description="further tasks of the harness, such as hellaswag")
    backend: Literal["hf", "hf-mlm"] = Field("hf", description="the harness's --model; hf-mlm for masked models")
    model_args: dict[str, Any] = Field(default_factory=dict, description="further --model_args of every model")
    batch_size: int | str = Field(16, description="a number or auto")
    device: str | None = Field(None, description="such as cuda:0; the harness's choice by default")
    dtype: str = Field("float32", description="of every model's weights; one for all, or figures would not compare")

    @field_validator("attacks")
    @classmethod
    def _known(cls, names: list[str] | None) -> list[str] | None:
        return None if names is None else known_attacks(names)

    @model_validator(mode="after")
    def _possible(self) -> _Section:
        for name in self.attacks or ():
            if ATTACKS[name].needs_reference and self._reference is None:
                raise ValueError(
                    f"the attack '{name}' needs 'reference', a model like the teacher that never saw the members"
                )
        try:
            parse_options({"mia": self.options})
        except InputError as error:
            raise ValueError(str(error).removeprefix("--metadata 'mia': ")) from None
        return self

    @model_serializer(mode="wrap")
    def _as_said(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A default that is written out in an attack's own section would come before what was said for all attacks."""
        written: dict[str, Any] = handler(self)
        return written | {name: value for name, value in self._sections.items() if name in written}

    @property
    def chosen(self) -> list[str]:
        """The attacks that run."""
        return self.attacks or [
            name
            for name, attack in ATTACKS.items()
            if attack.by_default and (self._reference is not None or not attack.needs_reference)
        ]

    @property
    def options(self) -> dict[str, Any]:
        """What is said here of the options of ``--metadata '{"mia": …}'``."""
        given = {name: getattr(self, name) for name in KEYS} | self._sections
        return {name: value for name, value in given.items() if value is not None}

    @property
    def _sections(self) -> dict[str, dict[str, Any]]:
        """What is said in attacks' own sections."""
        sections = {name: value for name in KEYS if isinstance(value := getattr(self, name), Strict)}
        return {name: section.model_dump(mode="json", exclude_unset=True) for name, section in sections.items()}

    @property
    def reference_model(self) -> tuple[str, str | None] | None:
        """Hub id or folder, and revision, of the model that an attack of these compares with; None = there is none."""
        reference = self._reference
        if reference == "base" or not any(ATTACKS[name].reads_reference for name in self.chosen):
            return None
        if isinstance(reference, Mapping):
            return (str(reference["pretrained"]), reference.get("revision")) if "pretrained" in reference else None
        return None if reference is None else (str(reference), None)

    @property
    def _reference(self) -> Any:
        return getattr(self, "reference", None)


def _keys() -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Options that reach every task, those of attacks, which reach every attack that has them, and one attack's own."""
    for section in (RunOptions, TextOptions):
        for name, field in section.model_fields.items():
            if name not in Data.model_fields and name not in ("own", "shard"):
                yield name, (annotated(field.annotation, field), field)
    owners: dict[str, list[str]] = {}
    for attack in ATTACKS.values():
        for name in attack.fields:
            owners.setdefault(name, []).append(attack.name)
    for name, names in owners.items():
        kind, field = ATTACKS[names[0]].fields[name]
        text = f"{', '.join(names)}: {field.description}; each attack's own by default"
        yield name, (annotated(kind, field) | None, Field(None, description=text))
    for attack in ATTACKS.values():
        if attack.fields:
            own = model_of(attack.name, attack.fields)
            yield attack.name, (own | None, Field(None, description=f"options for {attack.name} alone"))


KEYS = {name: key for name, key in _keys() if name not in _Section.model_fields}
"""Name → type and field of what attacks and run declare."""

if TYPE_CHECKING:

    class Evaluate(_Section):
        """The section, with the options of the attacks."""

else:
    Evaluate = create_model(
        "Evaluate",
        __base__=_Section,
        __doc__="One run of the harness a model: attacks, held-out perplexity and other tasks.",
        **KEYS,
    )


def resolved(evaluate: Mapping[str, Any]) -> Mapping[str, Any]:
    """The section, as YAML has it, with the options of the attacks that run as they are in the end, however said."""
    section = Evaluate.model_validate(evaluate)
    said = {name for attack in ATTACKS.values() for name in (attack.name, *attack.fields)}
    rest = {name: value for name, value in evaluate.items() if name not in said}
    options = parse_options({"mia": section.options}).attacks
    return {**rest, **{name: options[name] for name in section.chosen}}
