"""What a distillation would do and take, from a few of its own steps; nothing is written outside a scratch folder."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerBase

from midistill_tasks.distill.cache.store import HiddenCache, Key, bytes_needed, hash_tokenizer, write_cache
from midistill_tasks.distill.costs.timing import Pace, padded_tokens, peak_memory, seconds_a_token, time_steps, typical
from midistill_tasks.distill.data import (
    Encoded,
    Texts,
    all_texts,
    encode,
    fingerprint,
    given_texts,
    kept_members,
    load_texts,
    said_of_cut,
)
from midistill_tasks.distill.dp.guarantee import check_run
from midistill_tasks.distill.fine_tune import fine_tuning_trainer, is_made, of_config
from midistill_tasks.distill.loader import TextDataset
from midistill_tasks.distill.lora import n_parameters_saved
from midistill_tasks.distill.reading import sample_of, states_key, tokenizer_of
from midistill_tasks.distill.run import cache_of, key_of
from midistill_tasks.distill.run_folder import check_output
from midistill_tasks.distill.sampling.written import stand_in
from midistill_tasks.distill.student import check_lengths, make_student
from midistill_tasks.distill.trainer import DistillationTrainer
from midistill_tasks.errors import InputError
from midistill_tasks.models.loading import check_vocabulary, from_pretrained, load_tokenizer, positions_of
from midistill_tasks.processes import processes
from midistill_tasks.recipes.schema import Data, Recipe, Teacher

_NO_HASHES = {"teacher": "", "tokenizer": "", "texts": ""}

START = 8.0
"""Seconds beside the arithmetic: loading, and for a student the check in a fresh process."""
WEIGHT, MOMENTS = 4, 8
"""Bytes a parameter: float32, and the two of AdamW."""


@dataclass(frozen=True)
class Training:
    """One training, as far as it is known beforehand.

    Attributes:
        steps: of the optimiser.
        seconds: by what takes them.
        pace: of the steps that were made.
        parameters: of the model.
        trained: those that the optimiser changes.
        forward: seconds a token that the trained model reads.
        states: bytes of the teacher's hidden states that stand in for it; 0 = none do.
    """

    steps: int
    seconds: Mapping[str, float]
    pace: Pace
    parameters: int
    trained: int
    forward: float
    states: int = 0

    @property
    def checkpoint(self) -> int:
        """Bytes of one."""
        whole = self.trained == self.parameters
        return WEIGHT * (self.parameters if whole else self.trained) + MOMENTS * self.trained


def drawn_teacher(teacher: Teacher, data: Data, texts: Texts) -> tuple[Any, PreTrainedTokenizerBase, bool]:
    """The teacher with weights drawn at random, its tokenizer, and whether it is still to be fine-tuned.

    Raises:
        InputError: its config or tokenizer is not to be had.
    """
    tune = teacher.fine_tune
    to_tune = tune is not None and not is_made(teacher, tune, data, texts)
    name = teacher.model if tune is None or to_tune else tune.folder
    if name:
        tokenizer = load_tokenizer(name, "teacher.model", teacher.revision)
        config = from_pretrained(AutoConfig, name, "teacher.model", revision=teacher.revision)
    else:
        config, tokenizer = of_config(teacher.config or {}, texts)
    check_vocabulary(config, tokenizer, "teacher")
    dtype = torch.float32 if to_tune else getattr(torch, teacher.dtype)
    return AutoModelForCausalLM.from_config(config, dtype=dtype).to(processes().device), tokenizer, to_tune


def fine_tuning(teacher: Teacher, model: Any, tokenizer: Any, data: Data, texts: Texts) -> Training:
    """Of the teacher on the members."""
    tune = teacher.fine_tune
    assert tune is not None  # noqa: S101 (asked by the caller)
    ids = encode(texts.members, tokenizer, data.max_length).ids
    lengths = [len(row) for row in ids]
    chosen = typical(lengths, tune.batch_size, data.seed)
    with TemporaryDirectory() as scratch:
        trainer = fine_tuning_trainer(model, [ids[p] for p in chosen], tune, data.seed, scratch, teacher.dp)
        pace = time_steps(trainer, [lengths[p] for p in chosen], tune.batch_size)
    seconds = pace.per_token * padded_tokens(lengths, tune.batch_size, data.seed) * tune.epochs
    size = model.num_parameters()
    steps = tune.epochs * -(-len(ids) // tune.batch_size)
    return Training(steps, {"fine-tuning": seconds}, pace, size, size, seconds_a_token(model, ids))


def distillation(
    recipe: Recipe,
    teacher: Any,
    tokenizer: Any,
    encoded: Encoded,
    texts: Texts,
    shared: bool = False,
    kept: Sequence[int] | None = None,
) -> Training:
    """Of the student; the teacher is left as it is.

    Args:
        encoded: what could be trained on, which a cache is of; `kept` says which of them are, by default all.
        texts: of the split.
        shared: as one of a study's.

    Raises:
        InputError: the recipe's student cannot be made.
    """
    train, pool = recipe.train, [len(row) for row in encoded.ids]
    trained_on = range(len(pool)) if kept is None else kept
    lengths = [pool[position] for position in trained_on]
    drawn = recipe.student.model_copy(update={"reinitialise": True})  # takes as long, and needs no download
    student = make_student(drawn, recipe.interventions.chosen, recipe.seed, teacher, tokenizer)
    chosen = [trained_on[place] for place in typical(lengths, train.batch_size * train.accumulate, recipe.seed)]
    states = states_key(recipe, teacher, _NO_HASHES, len(tokenizer), encoded.ids) if shared else None
    watches = teacher is not None and recipe.loss.alpha > 0 and not (recipe.teacher.cache or states)
    of_teacher = seconds_a_token(teacher, encoded.ids) if teacher is not None else 0.0
    with TemporaryDirectory() as scratch:
        dataset = _dataset(recipe, teacher, tokenizer, encoded, chosen, Path(scratch), states)
        unwatched = train.model_copy(update={"loggers": [], "warmup_steps": 0})
        timed = recipe.model_copy(update={"output": scratch, "train": unwatched})
        trainer = DistillationTrainer(student, teacher if watches else None, timed, dataset, len(tokenizer))
        pace = time_steps(trainer, [pool[p] for p in chosen], train.batch_size * train.accumulate)
        forward = seconds_a_token(trainer.model, encoded.ids)
    writes = recipe.teacher.cache is not None and teacher is not None
    seconds = {"the teacher's cache": of_teacher * sum(pool)} if writes else {}
    seconds["training"] = pace.per_token * padded_tokens(lengths, train.batch_size, recipe.seed) * train.epochs
    steps = train.epochs * -(-len(lengths) // (train.batch_size * train.accumulate))
    if sample := sample_of(texts, tokenizer, recipe):
        times = 2 + (steps - 1) // train.audit_every
        whole = sum(map(len, encode(texts.nonmembers, tokenizer, sys.maxsize).ids))  # perplexities are of whole texts
        a_time = sum(map(len, sample.rows)) + whole * min(1.0, train.audit_texts / len(texts.nonmembers))
        seconds["measuring"] = (a_time * times + whole) * forward + (a_time + whole) * of_teacher
    trained = sum(p.numel() for p in student.parameters() if p.requires_grad)
    held = bytes_needed(pool, states) if states else 0
    return Training(steps, seconds, pace, n_parameters_saved(student), trained, forward, held)


def _dataset(
    recipe: Recipe,
    teacher: Any,
    tokenizer: Any,
    encoded: Encoded,
    chosen: list[int],
    scratch: Path,
    states: Key | None,
) -> TextDataset:
    rows, cache = [encoded.ids[p] for p in chosen], recipe.teacher.cache
    if states:
        folder = write_cache(scratch, states, teacher, rows)
        kept = HiddenCache(folder, list(map(len, rows)), states, teacher.get_output_embeddings())
        return TextDataset(rows, kept, range(len(rows)))
    if cache is None:
        return TextDataset(rows)
    hashes = {"teacher": "", "tokenizer": hash_tokenizer(tokenizer), "texts": fingerprint(encoded.ids)}
    key = key_of(recipe, cache, hashes, len(tokenizer))
    if teacher is None:
        return TextDataset(rows, cache_of(Path(cache.folder), key, None, encoded.ids), chosen)
    return TextDataset(rows, cache_of(scratch, key, teacher, rows), range(len(rows)))


def _cache_bytes(recipe: Recipe, encoded: Encoded, vocab: int) -> int:
    if recipe.teacher.cache is None:
        return 0
    key = key_of(recipe, recipe.teacher.cache, _NO_HASHES, vocab)
    return bytes_needed([len(row) for row in encoded.ids], key)


@dataclass(frozen=True)
class Forecast:
    """Of a recipe; `tuning` is None where its teacher is as it is to be, `teacher` where there is its cache alone."""

    texts: int
    tokens: int
    cut: str
    teacher: int | None
    tuning: Training | None
    student: Training
    memory: int
    cache: int

    @property
    def seconds(self) -> dict[str, float]:
        """By what takes them."""
        return {**(self.tuning.seconds if self.tuning else {}), **self.student.seconds}


def forecast(recipe: Recipe, resume: bool = False) -> Forecast:
    """What `run_recipe` would do.

    Raises:
        InputError: what `run_recipe` would refuse, as far as it is known without weights; several processes.
    """
    if processes().num_processes > 1:
        raise InputError("--dry-run: it times one process: leave out the launcher")
    check_output(recipe, resume)
    check_run(recipe)
    texts = load_texts(recipe.data)
    teacher, tokenizer, tuning = None, None, None
    if recipe.teacher.model or recipe.teacher.config:
        everyone = all_texts(recipe.data) if recipe.teacher.fine_tune else texts
        teacher, tokenizer, to_tune = drawn_teacher(recipe.teacher, recipe.data, everyone)
        if to_tune:
            tuning = fine_tuning(recipe.teacher, teacher, tokenizer, recipe.data, everyone)
            teacher = teacher.eval().requires_grad_(False)
    tokenizer = tokenizer or tokenizer_of(recipe, None)
    pool, writing = _pool(recipe, texts, teacher, tokenizer)
    kept = set(kept_members(pool, recipe.interventions.chosen, recipe.seed))
    encoded = encode(pool, tokenizer, recipe.data.max_length)
    config = teacher.config if teacher is not None else None
    check_lengths(encoded.ids, config, recipe.student, tokenizer)
    rows = [number for number, position in enumerate(encoded.positions) if position in kept]
    student = distillation(recipe, teacher, tokenizer, encoded, texts, kept=rows)
    return Forecast(
        texts=len(rows),
        tokens=sum(len(encoded.ids[number]) - 1 for number in rows),
        cut=said_of_cut(encoded, recipe.data.max_length, positions_of(config) if config is not None else None),
        teacher=teacher.num_parameters() if teacher is not None else None,
        tuning=tuning,
        student=replace(student, seconds={**writing, **student.seconds}),
        memory=peak_memory(),
        cache=_cache_bytes(recipe, encoded, len(tokenizer)),
    )


def _pool(
    recipe: Recipe, texts: Texts, teacher: Any, tokenizer: PreTrainedTokenizerBase
) -> tuple[list[str], dict[str, float]]:
    """The texts that could be trained on, or as many, and the seconds until they are there."""
    if recipe.data.generate_from:
        pool, seconds = stand_in(recipe.data, texts, teacher, tokenizer)
        return pool, {"writing the texts": seconds}
    return given_texts(recipe.data, texts)[0], {}


def said(found: Forecast, recipe: Recipe) -> str:
    """For people."""
    train, student = recipe.train, found.student
    a_step = train.batch_size * train.accumulate
    total = sum(found.seconds.values()) + START
    parts = ", ".join(f"{what} {spelt_time(seconds)}" for what, seconds in found.seconds.items())
    of_teacher = "" if found.teacher is None else f"{found.teacher:,} of the teacher, "
    disk = [f"{spelt_bytes(WEIGHT * student.parameters)} for the student"]
    disk += [f"{spelt_bytes(WEIGHT * (found.teacher or 0))} for the teacher"] if found.tuning else []
    disk += [f"{spelt_bytes(found.cache)} for the teacher's cache"] if found.cache else []
    keeps = "" if train.keep_checkpoints else " while it trains"
    rows = {
        "texts": f"{found.texts:,}, {found.tokens:,} tokens an epoch" + (f"; {found.cut}" if found.cut else ""),
        "steps": f"{student.steps:,} ({train.epochs} epochs, {a_step} texts a step)",
        "parameters": f"{of_teacher}{student.parameters:,} of the student, {student.trained:,} trained",
        "time": f"about {spelt_time(total)} on this machine ({parts}, and loading and saving): {student.pace}",
        "memory": f"{spelt_bytes(found.memory)}, the most that this process took for that" if found.memory else "",
        "disk": f"{', '.join(disk)}, and up to {spelt_bytes(3 * student.checkpoint)} for checkpoints{keeps}",
    }
    lines = [f"  {name:<12}{text}" for name, text in rows.items() if text]
    return "\n".join([f"{recipe.output}: what would be trained; nothing is written", *lines])


def spelt_time(seconds: float) -> str:
    """
    >>> [spelt_time(seconds) for seconds in (0.2, 89, 100, 10_000)]
    ['1 s', '89 s', '2 min', '2.8 h']
    """
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def spelt_bytes(number: float) -> str:
    """
    >>> [spelt_bytes(number) for number in (2_000, 325_000_000, 1_300_000_000)]
    ['1 MB', '325 MB', '1.3 GB']
    """
    return f"{max(1, number / 1e6):.0f} MB" if number < 1e9 else f"{number / 1e9:.1f} GB"
