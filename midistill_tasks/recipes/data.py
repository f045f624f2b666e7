"""The recipe's section of the texts: a key for each option that a split declares."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field, create_model, model_validator

from midistill_tasks.options import Strict
from midistill_tasks.recipes.keys import declared_keys, options_in
from midistill_tasks.splits import SPLITS, Split
from midistill_tasks.splits.sources import FORMS, Source


class GenerateFrom(Strict):
    """Has the teacher write the texts to distil on (sequence-level distillation, Kim & Rush 2016)."""

    folder: str = Field(description="where what it wrote is kept, and found again by the next student")
    n: int | None = Field(None, ge=1, description="texts that it writes; as many as there are members by default")
    beginnings: Source | None = Field(
        None, description="it goes on from these texts (as members), not from its beginning-of-text token"
    )
    tokens: int = Field(8, ge=1, description="of each of the beginnings that it is given")
    temperature: float = Field(1.0, gt=0, description="of its sampling, from its whole distribution")
    seed: int = Field(0, ge=0, description="of the sampling")


class _Section(Strict):
    split: str = Field("files", description="a split of `midistill tasks`, or files = `members` and `nonmembers`")
    members: Source | None = Field(None, description=f"files: {FORMS}")
    nonmembers: Source | None = Field(None, description="files: the same; without it nothing is measured in training")
    column: str = Field("text", description="files: the column that holds the text")
    dataset_path: str | None = Field(None, description="a local copy of the split's data")
    dataset_revision: str | None = Field(None, description="branch, tag or commit of the split's data set on the hub")
    n: int | None = Field(
        None,
        ge=2,
        description="texts per class for the student and the measurements, drawn as the tasks do; all by default",
    )
    seed: int = Field(0, ge=0, description="of that draw; keep it the same for every arm of a comparison")
    distil_on: Source | None = Field(
        None, description="other texts to distil on (as members), so that the student never sees a member itself"
    )
    generate_from: GenerateFrom | None = Field(
        None, description="distil on what the teacher writes, so that the student sees no text of yours at all"
    )
    max_length: int = Field(128, ge=2, description="tokens kept of a text; the rest is cut off, and counted")

    @model_validator(mode="after")
    def _possible(self) -> _Section:
        if self.split == "files" and not self.members:
            raise ValueError("split 'files' needs 'members', the file of the texts to train on")
        if self.split != "files" and (self.members or self.nonmembers):
            raise ValueError(f"'members' and 'nonmembers' belong to 'split: files', not to '{self.split}'")
        if self.generate_from and self.distil_on:
            raise ValueError("'generate_from' and 'distil_on' both say what to distil on: keep one")
        for key, names in _OWNERS.items():
            if key in _KEYS and self.split not in names and getattr(self, key) != _KEYS[key][1].get_default():
                raise ValueError(f"'{key}' belongs to {', '.join(names)}, not to '{self.split}'")
        return self

    def options_of(self, split: Split) -> dict[str, Any]:
        """The options that this split declares."""
        return options_in(self, split.name, split.fields, _OWNERS)


_KEYS, _OWNERS = declared_keys(_Section, {name: split.fields for name, split in SPLITS.items()})

if TYPE_CHECKING:

    class Data(_Section):
        """The section, with the options of the splits."""

else:
    Data = create_model(
        "Data",
        __base__=_Section,
        __doc__="The texts: members, which teacher and student see, and non-members, which only the measurements see.",
        **_KEYS,
    )
