"""The texts of a study: a split as it is, or documents divided by coins."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from midistill_tasks.distill.data import Texts, all_texts, read_texts
from midistill_tasks.errors import InputError
from midistill_tasks.files import write_atomically
from midistill_tasks.models.loading import load_tokenizer
from midistill_tasks.recipes.schema import Data
from midistill_tasks.splits import SPLITS
from midistill_tasks.study.folders import data_folder
from midistill_tasks.study.recipe import Documents, Study

DIVIDED = "divided.json"
"""Written last: the folder holds all its files."""


def study_data(study: Study) -> Data:
    """The data section of the students' recipes; of documents, the files that `divide` writes."""
    return _divided(study, study.documents) if study.documents else Data.model_validate(study.data)


def _divided(study: Study, documents: Documents) -> Data:
    folder = data_folder(study)
    return Data(
        members=str(folder / "members.jsonl"),
        nonmembers=str(folder / "nonmembers.jsonl"),
        distil_on=str(folder / "train.jsonl") if documents.null_control else None,
        max_length=documents.tokens,
    )


def study_options(study: Study) -> dict[str, Any]:
    """What the MIA tasks are told, as under ``--metadata '{"mia": …}'``."""
    data = study_data(study)
    options = data.model_dump(include={"n", "seed", "dataset_path", "dataset_revision"})
    options |= data.options_of(SPLITS[data.split]) | study.evaluate.options
    options |= {"independent_coins": True} if study.documents else {}
    return {name: value for name, value in options.items() if value is not None}


def logs_texts(study: Study) -> bool:
    """Whether what the study writes may hold texts (``evaluate.log_text``)."""
    return bool(study.evaluate.options.get("log_text", True))


def teachers_texts(study: Study) -> Texts:
    """What a teacher is fine-tuned on: all members, or of a null control the half that is not judged.

    Of documents that are not divided yet, what it will be.
    """
    data = study_data(study)
    if study.documents and not (data_folder(study) / DIVIDED).is_file():
        sides = divided_texts(study, study.documents)
        judged = Texts(sides["members"], sides["nonmembers"])
        return Texts(sides["train"], judged.members + judged.nonmembers) if "train" in sides else judged
    texts = all_texts(data)
    if data.distil_on is None or not study.documents:  # a user's distil_on keeps the members from the students only
        return texts
    return Texts(read_texts(data.distil_on, data.column), texts.members + texts.nonmembers)


def divide(study: Study, documents: Documents) -> None:
    """Writes the documents' beginnings as members.jsonl, nonmembers.jsonl and, of a null control, train.jsonl.

    Raises:
        InputError: if the file cannot be read, or one of the sides stays empty.
    """
    write_sides(data_folder(study), divided_texts(study, documents), documents.model_dump())


def write_sides(folder: Path, sides: Mapping[str, Sequence[str]], about: Mapping[str, Any]) -> None:
    """Each side as ``<name>.jsonl``, then `DIVIDED` with how many they are and what else is said about them."""
    for name, side in sides.items():
        lines = (json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in side)
        write_atomically(folder / f"{name}.jsonl", "".join(lines))
    counts = {name: len(side) for name, side in sides.items()}
    write_atomically(folder / DIVIDED, json.dumps({**about, **counts}, indent=2) + "\n")


def divided_texts(study: Study, documents: Documents) -> dict[str, list[str]]:
    """What `divide` writes, by the name of its file; raises as it does."""
    texts = list(dict.fromkeys(_beginnings(read_texts(documents.path, documents.column), study, documents)))
    coins = random.Random(f"members {documents.seed}")
    sides: dict[str, list[str]] = {"members": [], "nonmembers": [], **({"train": []} if documents.null_control else {})}
    for text in texts:
        trained = documents.null_control and coins.random() < 0.5
        member = coins.random() < 0.5
        sides["train" if trained else "members" if member else "nonmembers"].append(text)
    empty = [name for name, side in sides.items() if not side]
    if empty:
        raise InputError(f"{documents.path}: its {len(texts)} documents leave no {empty[0]}: give more documents")
    return sides


def _beginnings(texts: list[str], study: Study, documents: Documents) -> list[str]:
    """The first `tokens` tokens of each text, cut back to whole words, without those of fewer than two words."""
    tokenizer = load_tokenizer(study.teacher.model or "", "teacher.model")
    found = []
    for text in texts:
        ends = tokenizer(text, return_offsets_mapping=True, truncation=True, max_length=documents.tokens)
        end = max((at for _, at in ends["offset_mapping"]), default=0)  # an end-of-text token stands at (0, 0)
        # A word that goes on after the cut would be tokenised otherwise when it stands alone.
        beginning = text[:end] if end == len(text.rstrip()) else "".join(text[:end].rsplit(maxsplit=1)[:1])
        if len(beginning.split()) > 1:
            found.append(beginning)
    return found
