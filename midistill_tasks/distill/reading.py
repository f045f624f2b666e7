"""What a run has of its teacher alone: the students of one teacher and the same texts read it once."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from midistill_tasks.distill.cache.store import (
    HiddenCache,
    Key,
    bytes_needed,
    hash_tokenizer,
    hash_weights,
    write_cache,
)
from midistill_tasks.distill.callbacks.leakage import Sample
from midistill_tasks.distill.data import (
    Encoded,
    Texts,
    all_texts,
    encode,
    fingerprint,
    given_texts,
    said_of_cut,
    text_id,
)
from midistill_tasks.distill.fine_tune import fine_tuned_teacher
from midistill_tasks.distill.sampling.written import written_texts
from midistill_tasks.distill.student import check_lengths, student_tokenizer
from midistill_tasks.errors import InputError
from midistill_tasks.models.last_head import head_is_last
from midistill_tasks.models.loading import (
    check_same_tokenizer,
    check_vocabulary,
    load_teacher,
    load_tokenizer,
    positions_of,
)
from midistill_tasks.processes import first_alone, processes
from midistill_tasks.recipes.schema import Recipe

logger = logging.getLogger(__name__)

MOST_STATES = 4 * 10**9
"""Bytes of hidden states that a study may put on the disk; where they are more, its teacher is run for each student."""


@dataclass(frozen=True)
class Reading:
    """A teacher with its texts, checked.

    Attributes:
        teacher: None where there is its cache alone.
        tokenizer: the teacher's, or without one the student's.
        pool: the texts that could be trained on; `left_out` says how many others are not among them, and why.
        encoded: the pool.
        sample: what is measured in training; None without non-members.
        hashes: of the texts, the tokenizer and the teacher's weights, "" without.
        cut: what `said_of_cut` says.
        figures: of the teacher on the sample; `whole` on all held-out texts.
    """

    teacher: Any
    tokenizer: PreTrainedTokenizerBase
    pool: list[str]
    left_out: dict[str, int]
    encoded: Encoded
    sample: Sample | None
    hashes: dict[str, str]
    cut: str
    figures: dict[str, float] | None
    whole: dict[str, float]


class Readings:
    """The last one, which the next run of this process takes where it begins alike.

    Args:
        folder: for the teacher's hidden states, which then stand in for its forwards; None = it is run each time.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self._last: tuple[Any, Texts, Reading] | None = None

    def of(self, recipe: Recipe, texts: Texts) -> Reading:
        """As `read`."""
        student = recipe.student
        asked = (recipe.teacher, recipe.data, student.checkpoint, student.config, recipe.train.audit_texts)
        if self._last is None or self._last[0] != asked or self._last[1] is not texts:
            self._last = None  # two teachers at once may be too many
            self._last = asked, texts, read(recipe, texts)
        return self._last[2]

    def states(self, recipe: Recipe, reading: Reading) -> HiddenCache | None:
        """The teacher's last hidden states over the pool, written where they are not there; None = run the teacher."""
        rows = reading.encoded.ids
        key = states_key(recipe, reading.teacher, reading.hashes, len(reading.tokenizer), rows)
        if self.folder is None or key is None:
            return None
        try:
            write_cache(self.folder, key, reading.teacher, rows, processes().process_index, processes().num_processes)
        except InputError as error:
            if processes().num_processes > 1:  # all must go the same way
                raise
            logger.warning("the teacher is run for each student: %s", error)
            return None
        processes().wait_for_everyone()
        head = reading.teacher.get_output_embeddings()
        return HiddenCache(self.folder / key.name, [len(row) for row in rows], key, head)

    def clear(self) -> None:
        """Deletes the hidden states."""
        if (folder := self.folder) is not None:
            first_alone(lambda: shutil.rmtree(folder, ignore_errors=True))


def states_key(
    recipe: Recipe, teacher: Any, hashes: Mapping[str, str], vocab: int, rows: Sequence[Sequence[int]]
) -> Key | None:
    """Of the cache of a teacher's hidden states on texts of these token ids.

    None where they would not do in its place (the recipe has another cache, no use for a teacher or for all that it
    says, or asks it about texts that the student writes; its logits are not what its head makes of them), or are more
    than `MOST_STATES`.
    """
    if recipe.teacher.cache or recipe.loss.alpha == 0 or recipe.loss.compat or recipe.loss.on_policy:
        return None
    if teacher is None or not head_is_last(teacher):
        return None
    weight = teacher.get_output_embeddings().weight
    key = Key(
        teacher=hashes["teacher"],
        tokenizer=hashes["tokenizer"],
        texts=hashes["texts"],
        vocab=vocab,
        temperature=1.0,
        k=0,
        max_length=recipe.data.max_length,
        bits=8 * weight.element_size(),
        width=weight.shape[1],
    )
    return key if bytes_needed([len(row) for row in rows], key) <= MOST_STATES else None


def read(recipe: Recipe, texts: Texts) -> Reading:
    """Loads and measures.

    Raises:
        InputError: teacher, student and texts do not fit together, or one cannot be had.
    """
    name = _teacher_name(recipe)
    tokenizer = tokenizer_of(recipe, name)
    settings = recipe.teacher.model_dump(include={"dtype", "revision", "quantize"})
    teacher = load_teacher(name, **settings) if name else None
    config = None if teacher is None else teacher.config
    if config is not None:
        check_vocabulary(config, tokenizer, "teacher")
    hashes = {
        "tokenizer": hash_tokenizer(tokenizer),
        "teacher": hash_weights(teacher) if teacher is not None else "",
    }
    pool, left_out = pool_of(recipe, texts, teacher, tokenizer, hashes)
    of_student = student_tokenizer(recipe.student)
    if of_student is not None:
        check_same_tokenizer(tokenizer, of_student, pool)
    encoded = encode(pool, tokenizer, recipe.data.max_length)
    sample = sample_of(texts, tokenizer, recipe)
    measured = [*encoded.ids, *(sample.rows if sample else ())]
    check_lengths(measured, config, recipe.student, tokenizer)
    return Reading(
        teacher=teacher,
        tokenizer=tokenizer,
        pool=pool,
        left_out=left_out,
        encoded=encoded,
        sample=sample,
        hashes={"texts": fingerprint(encoded.ids), **hashes},
        cut=said_of_cut(encoded, recipe.data.max_length, positions_of(config) if config is not None else None),
        figures=sample.measure(teacher) if sample and teacher is not None else None,
        whole=sample.measure_whole(teacher) if sample and teacher is not None else {},
    )


def _teacher_name(recipe: Recipe) -> str | None:
    """Hub id or folder of the teacher; it is trained here where the recipe says so and nobody has."""
    teacher = recipe.teacher
    if teacher.fine_tune is None:
        return teacher.model
    return str(fine_tuned_teacher(teacher, teacher.fine_tune, recipe.data, all_texts(recipe.data), recipe.student))


def pool_of(
    recipe: Recipe, texts: Texts, teacher: Any, tokenizer: PreTrainedTokenizerBase, hashes: Mapping[str, str]
) -> tuple[list[str], dict[str, int]]:
    """The texts that could be trained on, and how many others are left out."""
    if recipe.data.generate_from:
        return written_texts(recipe.data, texts, teacher, tokenizer, hashes)
    return given_texts(recipe.data, texts)


def tokenizer_of(recipe: Recipe, teacher: str | None) -> PreTrainedTokenizerBase:
    """The teacher's, or without one the student's."""
    if teacher:
        return load_tokenizer(teacher, "teacher.model", recipe.teacher.revision)
    tokenizer = student_tokenizer(recipe.student)
    if tokenizer is None:
        raise InputError("student: without teacher.model the tokenizer must come with it: give student.checkpoint")
    return tokenizer


def sample_of(texts: Texts, tokenizer: PreTrainedTokenizerBase, recipe: Recipe) -> Sample | None:
    """What is measured in training; None without non-members."""
    if not texts.nonmembers:
        return None
    sides = []
    for side in (texts.members, texts.nonmembers):
        encoded = encode(side, tokenizer, recipe.data.max_length)
        kept = [side[position] for position in encoded.positions]
        # By id, which is a hash: a fixed sample that does not depend on the order of the files.
        named = sorted(zip(map(text_id, kept), encoded.ids, kept, strict=True))
        sides.append(named[: recipe.train.audit_texts])
    members, nonmembers = ([(name, ids) for name, ids, _ in side] for side in sides)
    return Sample(members, nonmembers, tokenizer, [text for _, _, text in sides[1]], texts.nonmembers)
