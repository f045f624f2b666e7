"""How much a study has to compute, as far as that is known before anything is done."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from midistill_tasks.distill.data import read_texts
from midistill_tasks.errors import InputError
from midistill_tasks.splits.sources import places
from midistill_tasks.study.recipe import Study
from midistill_tasks.study.texts import study_data
from midistill_tasks.study.work import Work


@dataclass(frozen=True)
class Sizes:
    """Texts trained on, texts judged, tokens of one, parameters of teacher and student; None = not known beforehand.

    6 operations a parameter and token to train, 2 for a forward (Kaplan et al. 2020, section 2.1).
    """

    members: int | None
    texts: int | None
    tokens: int
    teacher: int | None
    student: int | None

    def training(self, parameters: int | None, epochs: int, watched: int | None = 0) -> float | None:
        """Operations of a training on the members; `watched`: parameters of a model that runs beside it."""
        if parameters is None or watched is None or self.members is None:
            return None
        return (6.0 * parameters + 2.0 * watched) * self.tokens * self.members * epochs

    def scoring(self, parameters: int | None, passes: float) -> float | None:
        """Operations of so many forwards of the texts that are judged."""
        if parameters is None or self.texts is None:
            return None
        return 2.0 * parameters * self.tokens * self.texts * passes


def sizes_of(work: Work) -> Sizes:
    """Counted without making a model, and without a download; raises InputError for files that cannot be read."""
    study = work.study
    teacher = _parameters(study.teacher.config or study.teacher.model)
    student = study.student
    if student is None:
        size = None if study.arms else teacher  # ready-made students are taken to be as large as the teacher at most
    elif student.every_nth_layer is not None:
        size = None if teacher is None else teacher // student.every_nth_layer
    else:
        size = _parameters(student.config or student.checkpoint)
    return Sizes(*_counts(work), study_data(study).max_length, teacher, size)


def _counts(work: Work) -> tuple[int | None, int | None]:
    """Texts that are trained on and texts that are judged; None where they are not to be had without a download."""
    study: Study = work.study
    try:
        if study.documents and all(Path(file).expanduser().exists() for file in places(study.documents.path)):
            half = len(read_texts(study.documents.path, study.documents.column)) // 2
            return half, half if study.documents.null_control else 2 * half
        texts = work.texts
    except InputError:
        if study.documents or study_data(study).split == "files":
            raise
        return None, None
    return len(texts.members), len(texts.members) + len(texts.nonmembers)


def _parameters(model: dict[str, Any] | str | None) -> int | None:
    """Parameters of a config, hub id or folder, counted without making any; None where it cannot be had."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.for_model(**model) if isinstance(model, dict) else AutoConfig.from_pretrained(model)
        with torch.device("meta"):
            return int(AutoModelForCausalLM.from_config(config).num_parameters())
    except (OSError, ValueError, KeyError):
        return None
