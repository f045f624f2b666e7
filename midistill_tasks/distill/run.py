"""One distillation from recipe to saved student."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from midistill_tasks.distill.cache.store import (
    Key,
    TeacherCache,
    find_cache,
    hash_tokenizer,
    hash_weights,
    settled,
    write_cache,
)
from midistill_tasks.distill.callbacks.leakage import LeakageCallback, Sample
from midistill_tasks.distill.callbacks.milestones import Milestones
from midistill_tasks.distill.callbacks.stopping import stops_after_a_step
from midistill_tasks.distill.card import write_card
from midistill_tasks.distill.data import (
    Texts,
    encode,
    fingerprint,
    kept_members,
    load_texts,
    other_texts,
    said_of_cut,
    text_id,
)
from midistill_tasks.distill.fine_tune import fine_tuned_teacher
from midistill_tasks.distill.loader import TextDataset
from midistill_tasks.distill.lora import ADAPTER, save_adapter
from midistill_tasks.distill.record import Record, make_record
from midistill_tasks.distill.run_folder import GO_ON, check_output, delete_checkpoints, open_run
from midistill_tasks.distill.student import check_lengths, make_student, student_tokenizer
from midistill_tasks.distill.trainer import DistillationTrainer
from midistill_tasks.errors import InputError
from midistill_tasks.files import writing
from midistill_tasks.locks import held
from midistill_tasks.models.loading import (
    check_same_tokenizer,
    check_vocabulary,
    load_teacher,
    load_tokenizer,
    positions_of,
)
from midistill_tasks.models.saving import save
from midistill_tasks.processes import by_first, from_first, processes
from midistill_tasks.recipes.schema import Cache, Recipe

logger = logging.getLogger(__name__)


@dataclass
class Materials:
    """What the training needs, made and checked; `teacher` is None where its cache does its work."""

    teacher: Any
    tokenizer: PreTrainedTokenizerBase
    dataset: TextDataset
    sample: Sample | None
    hashes: dict[str, str]
    counts: dict[str, int]
    cut: str
    """What `said_of_cut` says."""
    teacher_figures: dict[str, float] | None
    """On the sample; `teacher_whole` on all held-out texts."""
    teacher_whole: dict[str, float]


def run_recipe(
    recipe: Recipe,
    resume: bool = False,
    texts: Texts | None = None,
    milestones: Mapping[Path, float] | None = None,
) -> Record:
    """Trains, measures and saves the student; every process of a `torchrun` calls it.

    Args:
        recipe: what to do.
        resume: go on with a run that was interrupted.
        texts: those of the recipe's data, where the caller has them.
        milestones: folder → share of the steps after which the student, as it is then, is written there, too.

    Returns:
        What was done and measured, as the output folder's ``midistill.json`` holds it.

    Raises:
        InputError: for anything that the user can mend, another process at work there among it; nothing that existed
            has been changed then.
        Stopped: by Ctrl-C or SIGTERM in the training, when a checkpoint of the last step is written.
    """
    if processes().is_main_process:
        check_output(recipe, resume)
    with by_first(lambda: held(Path(recipe.output), "output")):
        return _run(recipe, resume, texts, milestones or {})


def _run(recipe: Recipe, resume: bool, texts: Texts | None, milestones: Mapping[Path, float]) -> Record:
    materials = gather(recipe, texts or load_texts(recipe.data))
    student = make_student(
        recipe.student, recipe.interventions.chosen, recipe.seed, materials.teacher, materials.tokenizer
    )
    if recipe.teacher.cache or recipe.loss.alpha == 0:
        materials.teacher = None
    checkpoint = _checkpoint(recipe, resume)
    trainer = DistillationTrainer(student, materials.teacher, recipe, materials.dataset, len(materials.tokenizer))
    if processes().is_main_process:
        said = (f"{name} {number}" for name, number in materials.counts.items() if name != "cut")
        logger.info("texts: %s", ", ".join(said))
        if materials.cut:
            logger.warning("%s", materials.cut)
    leakage = _leakage(trainer, materials, recipe)
    if milestones:
        trainer.add_callback(Milestones(milestones, materials.tokenizer))
    _warn_of_warmup(trainer, recipe)
    with writing(f"output: {recipe.output}", GO_ON):
        with stops_after_a_step(trainer):
            trainer.train(resume_from_checkpoint=checkpoint)
        record = make_record(recipe, trainer, materials.hashes, materials.counts, _measured(leakage, materials))
        if processes().is_main_process:
            _save(trainer, materials.tokenizer, recipe, record)
    processes().wait_for_everyone()
    return record


def gather(recipe: Recipe, texts: Texts) -> Materials:
    """Teacher (or its cache) and tokenizer, with everything checked that needs no student."""
    name = _teacher_name(recipe)
    tokenizer = tokenizer_of(recipe, name)
    pool, kept, left_out = pool_of(recipe, texts)
    of_student = student_tokenizer(recipe.student)
    if of_student is not None:
        check_same_tokenizer(tokenizer, of_student, pool)
    encoded = encode(pool, tokenizer, recipe.data.max_length)
    settings = recipe.teacher.model_dump(include={"dtype", "revision", "quantize"})
    teacher = load_teacher(name, **settings) if name else None
    if teacher is not None:
        check_vocabulary(teacher.config, tokenizer, "teacher")
    sample = sample_of(texts, tokenizer, recipe)
    measured = [*encoded.ids, *(sample.rows if sample else ())]
    check_lengths(measured, teacher.config if teacher is not None else None, recipe.student, tokenizer)
    hashes = {
        "texts": fingerprint(encoded.ids),
        "tokenizer": hash_tokenizer(tokenizer),
        "teacher": hash_weights(teacher) if teacher is not None else "",
    }
    cache = None
    if recipe.teacher.cache:
        key = key_of(recipe, recipe.teacher.cache, hashes, len(tokenizer))
        cache = cache_of(Path(recipe.teacher.cache.folder), key, teacher, encoded.ids)
        hashes["teacher"] = cache.key.teacher
    positions = [n for n, position in enumerate(encoded.positions) if position in kept]
    if not positions:
        raise InputError("interventions: every member that is left has a single token: nothing to train on")
    rows = [encoded.ids[n] for n in positions]
    counts = {
        "trained_on": len(rows),
        "tokens": sum(len(row) - 1 for row in rows),
        "too_short": len(pool) - len(encoded),
        "cut": encoded.cut,
    }
    return Materials(
        teacher=teacher,
        tokenizer=tokenizer,
        dataset=TextDataset(rows, cache, positions),
        sample=sample,
        hashes=hashes,
        counts={**texts.counts, **left_out, **counts},
        cut=said_of_cut(encoded, recipe.data.max_length, positions_of(teacher.config) if teacher is not None else None),
        teacher_figures=sample.measure(teacher) if sample and teacher is not None else None,
        teacher_whole=sample.measure_whole(teacher) if sample and teacher is not None else {},
    )


def _teacher_name(recipe: Recipe) -> str | None:
    """Hub id or folder of the teacher; it is trained here where the recipe says so and nobody has."""
    teacher = recipe.teacher
    if teacher.fine_tune is None:
        return teacher.model
    everyone = load_texts(recipe.data.model_copy(update={"n": None}))  # `n` is for the student and the measurements
    return str(fine_tuned_teacher(teacher, teacher.fine_tune, recipe.data, everyone, recipe.student))


def pool_of(recipe: Recipe, texts: Texts) -> tuple[list[str], set[int], dict[str, int]]:
    """The texts that could be trained on, the positions of those that are, and how many other texts are left out."""
    if recipe.data.distil_on:
        others, left_out = other_texts(recipe.data, texts)
        return others, set(kept_members(others, recipe.interventions.chosen, recipe.seed)), left_out
    return texts.members, set(kept_members(texts.members, recipe.interventions.chosen, recipe.seed)), {}


def tokenizer_of(recipe: Recipe, teacher: str | None) -> PreTrainedTokenizerBase:
    """The teacher's, or without one the student's."""
    if teacher:
        return load_tokenizer(teacher, "teacher.model", recipe.teacher.revision)
    tokenizer = student_tokenizer(recipe.student)
    if tokenizer is None:
        raise InputError("student: without teacher.model the tokenizer must come with it: give student.checkpoint")
    return tokenizer


def key_of(recipe: Recipe, cache: Cache, hashes: dict[str, str], vocab: int) -> Key:
    """Of the cache of these texts, by the hashes that `gather` makes."""
    whole = Key(
        teacher=hashes["teacher"],
        tokenizer=hashes["tokenizer"],
        texts=hashes["texts"],
        vocab=vocab,
        temperature=recipe.loss.temperature,
        k=0,
        max_length=recipe.data.max_length,
    )
    if cache.samples:
        return replace(whole, samples=cache.samples, seed=cache.seed)
    return replace(whole, k=min(cache.k or vocab, vocab), bits=8)


def cache_of(root: Path, key: Key, teacher: Any, rows: list[list[int]]) -> TeacherCache:
    """The teacher's cache over all texts, those included that an intervention drops: the arms of a study share it."""
    if teacher is None:
        key = find_cache(root, key)
    else:
        key = settled(root, key)
        write_cache(root, key, teacher, rows, processes().process_index, processes().num_processes)
        processes().wait_for_everyone()
    return TeacherCache(root / key.name, [len(ids) for ids in rows], key)


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


def _leakage(trainer: DistillationTrainer, materials: Materials, recipe: Recipe) -> LeakageCallback | None:
    if materials.sample is None:
        return None
    callback = LeakageCallback(trainer, materials.sample, materials.teacher_figures, recipe.train.audit_every)
    trainer.add_callback(callback)
    return callback


def _measured(leakage: LeakageCallback | None, materials: Materials) -> dict[str, float]:
    """The last figures of student and teacher, their perplexities on all held-out texts."""
    if leakage is None or materials.sample is None:
        return {}
    student = materials.sample.measure_whole(leakage.trainer.model)
    whole = {
        f"{role}_{name}": value
        for role, figures in (("student", student), ("teacher", materials.teacher_whole))
        for name, value in figures.items()
    }
    return {**leakage.last, **leakage.teacher, **whole}


def _warn_of_warmup(trainer: DistillationTrainer, recipe: Recipe) -> None:
    steps = recipe.train.epochs * -(-len(trainer.shuffle) // (trainer.shuffle.multiple * recipe.train.accumulate))
    if steps <= recipe.train.warmup_steps and processes().is_main_process:
        logger.warning(
            "train.warmup_steps (%d) is not below the run's %d steps: the learning rate never reaches its peak;"
            " try --set train.warmup_steps=%d",
            recipe.train.warmup_steps, steps, steps // 10,
        )  # fmt: skip


def _checkpoint(recipe: Recipe, resume: bool) -> str | None:
    """Opens the output folder in the main process; all processes go on from the same checkpoint."""
    checkpoint = from_first(open_run(recipe, resume) if processes().is_main_process else None)
    return str(checkpoint) if checkpoint else None


def _save(trainer: DistillationTrainer, tokenizer: PreTrainedTokenizerBase, recipe: Recipe, record: Record) -> None:
    model = trainer.accelerator.unwrap_model(trainer.model)
    folder = Path(recipe.output)
    if recipe.student.lora:
        save_adapter(model, folder / ADAPTER)
        model = model.merge_and_unload()
    if not (folder / "config.json").exists():  # there where a run was killed between this line and the end
        save(model.eval(), tokenizer, folder)
    write_card(folder, recipe, record)
    record.write(folder)
    if not recipe.train.keep_checkpoints:
        delete_checkpoints(recipe)
