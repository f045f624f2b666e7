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
    settled,
    write_cache,
)
from midistill_tasks.distill.callbacks.leakage import LeakageCallback
from midistill_tasks.distill.callbacks.milestones import Milestones
from midistill_tasks.distill.callbacks.stopping import stops_after_a_step
from midistill_tasks.distill.card import write_card
from midistill_tasks.distill.data import Texts, fingerprint, kept_members, load_texts
from midistill_tasks.distill.dp.guarantee import check_run
from midistill_tasks.distill.loader import TextDataset
from midistill_tasks.distill.lora import ADAPTER, save_adapter
from midistill_tasks.distill.reading import Reading, Readings, read
from midistill_tasks.distill.record import Record, make_record
from midistill_tasks.distill.run_folder import GO_ON, check_inputs, check_output, delete_checkpoints, open_run
from midistill_tasks.distill.student import make_student
from midistill_tasks.distill.trainer import DistillationTrainer
from midistill_tasks.errors import InputError
from midistill_tasks.files import writing
from midistill_tasks.locks import held
from midistill_tasks.models.saving import save
from midistill_tasks.models.sharded import check_checkpoint, check_launcher, refuse_under_fsdp, whole
from midistill_tasks.processes import by_first, from_first, processes
from midistill_tasks.recipes.schema import Cache, Recipe

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Materials:
    """What the training needs, made and checked."""

    reading: Reading
    dataset: TextDataset
    hashes: dict[str, str]
    counts: dict[str, int]


def run_recipe(
    recipe: Recipe,
    resume: bool = False,
    texts: Texts | None = None,
    milestones: Mapping[Path, float] | None = None,
    readings: Readings | None = None,
) -> Record:
    """Trains, measures and saves the student; every process of a `torchrun` calls it.

    Args:
        recipe: what to do.
        resume: go on with a run that was interrupted.
        texts: those of the recipe's data, where the caller has them.
        milestones: folder → share of the steps after which the student, as it is then, is written there, too.
        readings: what other runs of this process have read of their teacher.

    Returns:
        What was done and measured, as the output folder's ``midistill.json`` holds it.

    Raises:
        InputError: for anything that the user can mend, another process at work there among it; nothing that existed
            has been changed then.
        Stopped: by Ctrl-C or SIGTERM in the training, when a checkpoint of the last step is written.
    """
    _check_launcher(recipe)
    if processes().is_main_process:
        check_output(recipe, resume)
    check_run(recipe)
    with by_first(lambda: held(Path(recipe.output), "output")):
        return _run(recipe, resume, texts, milestones or {}, readings)


def _run(
    recipe: Recipe, resume: bool, texts: Texts | None, milestones: Mapping[Path, float], readings: Readings | None
) -> Record:
    materials = gather(recipe, texts or load_texts(recipe.data), readings)
    reading = materials.reading
    student = make_student(recipe.student, recipe.interventions.chosen, recipe.seed, reading.teacher, reading.tokenizer)
    teacher = None if materials.dataset.cache is not None or recipe.loss.alpha == 0 else reading.teacher
    if teacher is None and readings is None:  # nobody needs it any more
        reading = replace(reading, teacher=None)
        materials = replace(materials, reading=reading)
    inputs = {
        **materials.hashes,
        "texts that are trained on": fingerprint(materials.dataset.ids),
        "number of processes": str(processes().num_processes),
    }
    checkpoint = _checkpoint(recipe, resume, inputs)
    trainer = DistillationTrainer(student, teacher, recipe, materials.dataset, len(reading.tokenizer), inputs)
    if processes().is_main_process:
        said = (f"{name} {number}" for name, number in materials.counts.items() if name != "cut")
        logger.info("texts: %s", ", ".join(said))
        if reading.cut:
            logger.warning("%s", reading.cut)
    leakage = _leakage(trainer, reading, recipe)
    if milestones:
        trainer.add_callback(Milestones(milestones, reading.tokenizer))
    _warn_of_warmup(trainer, recipe)
    with writing(f"output: {recipe.output}", GO_ON):
        with stops_after_a_step(trainer):
            trainer.train(resume_from_checkpoint=checkpoint)
        record = make_record(recipe, trainer, materials.hashes, materials.counts, _measured(leakage, reading))
        student = whole(trainer.model)
        if processes().is_main_process:
            _save(student, reading.tokenizer, recipe, record)
    processes().wait_for_everyone()
    return record


def _check_launcher(recipe: Recipe) -> None:
    check_launcher()
    keys = {"loss.on_policy": recipe.loss.on_policy, "student.lora": recipe.student.lora, "train.dp": recipe.train.dp}
    for key, asked in keys.items():
        if asked:
            refuse_under_fsdp(key)


def gather(recipe: Recipe, texts: Texts, readings: Readings | None) -> Materials:
    """Teacher (or its cache) and tokenizer, with everything checked that needs no student."""
    reading = readings.of(recipe, texts) if readings else read(recipe, texts)
    encoded, hashes = reading.encoded, dict(reading.hashes)
    kept = set(kept_members(reading.pool, recipe.interventions.chosen, recipe.seed))
    positions = [n for n, position in enumerate(encoded.positions) if position in kept]
    if not positions:
        raise InputError("interventions: every member that is left has a single token: nothing to train on")
    cache: TeacherCache | None = None
    if recipe.teacher.cache:
        key = key_of(recipe, recipe.teacher.cache, hashes, len(reading.tokenizer))
        cache = cache_of(Path(recipe.teacher.cache.folder), key, reading.teacher, encoded.ids)
        hashes["teacher"] = cache.key.teacher
    elif readings:
        cache = readings.states(recipe, reading)
    rows = [encoded.ids[n] for n in positions]
    counts = {
        "trained_on": len(rows),
        "tokens": sum(len(row) - 1 for row in rows),
        "too_short": len(reading.pool) - len(encoded),
        "cut": encoded.cut,
    }
    return Materials(
        reading, TextDataset(rows, cache, positions), hashes, {**texts.counts, **reading.left_out, **counts}
    )


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


def _leakage(trainer: DistillationTrainer, reading: Reading, recipe: Recipe) -> LeakageCallback | None:
    if reading.sample is None:
        return None
    callback = LeakageCallback(trainer, reading.sample, reading.figures, recipe.train.audit_every)
    trainer.add_callback(callback)
    return callback


def _measured(leakage: LeakageCallback | None, reading: Reading) -> dict[str, float]:
    """The last figures of student and teacher, their perplexities on all held-out texts."""
    if leakage is None or reading.sample is None:
        return {}
    student = reading.sample.measure_whole(leakage.trainer.model)
    whole = {
        f"{role}_{name}": value
        for role, figures in (("student", student), ("teacher", reading.whole))
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


def _checkpoint(recipe: Recipe, resume: bool, inputs: Mapping[str, str]) -> str | None:
    """Opens the output folder in the main process; all processes go on from the same checkpoint."""
    checkpoint = from_first(open_run(recipe, resume) if processes().is_main_process else None)
    check_checkpoint(checkpoint)
    check_inputs(checkpoint, inputs)
    return str(checkpoint) if checkpoint else None


def _save(model: Any, tokenizer: PreTrainedTokenizerBase, recipe: Recipe, record: Record) -> None:
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
