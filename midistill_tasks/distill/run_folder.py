"""The output folder of a run: never shared, never overwritten, and resumed from whole checkpoints only."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from midistill_tasks.errors import InputError
from midistill_tasks.files import unused, write_atomically, writing
from midistill_tasks.locks import is_empty
from midistill_tasks.recipes.file import dump_recipe, read_stored
from midistill_tasks.recipes.schema import Recipe

RECIPE = "recipe.yaml"
RECORD = "midistill.json"
"""Written last: a folder that holds it is a finished run."""
CHECKPOINTS = "checkpoints"
WHOLE = "midistill_whole.json"
"""Marks a checkpoint that was written to its end, with the sizes of its files."""
LEARNT_FROM = "midistill_inputs.json"
"""In a checkpoint: hashes of the texts, tokenizer and teacher that it learnt from, and in how many processes."""
GO_ON = ", then run it again (`midistill distill` with --resume): it goes on from the last whole checkpoint"
"""What to do after a failed write."""


def open_run(recipe: Recipe, resume: bool) -> Path | None:
    """Makes the output folder, or finds it again; the checkpoint to go on from, or None for the beginning.

    Checkpoints that a killed run left half written are moved aside (``incomplete-N``).

    Raises:
        InputError: if the folder holds another run, a finished one, or something else.
    """
    check_output(recipe, resume)
    folder = Path(recipe.output)
    if (folder / RECIPE).is_file():
        return _last_whole_checkpoint(folder / CHECKPOINTS)
    write_atomically(folder / RECIPE, dump_recipe(recipe))
    return None


def check_inputs(checkpoint: Path | None, now: Mapping[str, str]) -> None:
    """Looks whether a run goes on as the checkpoint was made; of an older version it does not say.

    Raises:
        InputError: it learnt from something else, so that the record would be about a part of the training alone, or
            in more or fewer processes, by which the steps of an epoch are counted.
    """
    if checkpoint is None or not (checkpoint / LEARNT_FROM).is_file():
        return
    earlier = json.loads((checkpoint / LEARNT_FROM).read_text(encoding="utf-8"))
    if differing := [name for name in now if earlier.get(name, now[name]) != now[name]]:
        raise InputError(
            f"output: {checkpoint} was made otherwise ({', '.join(differing)} differ): restore that as it was, or give"
            " another output"
        )


def check_output(recipe: Recipe, resume: bool) -> None:
    """Refuses what `open_run` would refuse, and changes nothing."""
    folder = Path(recipe.output)
    with writing(f"output: {folder}"):
        is_run = (folder / RECIPE).is_file()
        is_other = not is_run and folder.exists() and not (folder.is_dir() and is_empty(folder))
    if is_run:
        _check_same_run(recipe, folder, resume)
    elif is_other:
        raise InputError(f"output: {folder} exists and holds no run of midistill: give an empty or a new folder")


def _check_same_run(recipe: Recipe, folder: Path, resume: bool) -> None:
    stored, given = flat(read_stored(folder / RECIPE, Recipe)), flat(recipe.model_dump(mode="json"))
    differing = [key for key in stored.keys() | given.keys() if stored.get(key) != given.get(key)]
    if differing:
        key = min(differing)
        raise InputError(
            f"output: {folder} already holds another run ('{key}' is {stored.get(key)!r} there, {given.get(key)!r} in"
            " this recipe): give another output"
        )
    if (folder / RECORD).is_file():
        raise InputError(f"output: {folder} already holds this run, finished: give another output to repeat it")
    if not resume:
        raise InputError(
            f"output: {folder} already holds this run, unfinished: add --resume to go on, or give another output"
        )


def flat(values: Any, above: str = "") -> dict[str, Any]:
    """Dotted key → value of a recipe's nested sections."""
    if not isinstance(values, dict):
        return {above: values}
    return {
        key: leaf
        for name, value in values.items()
        for key, leaf in flat(value, f"{above}.{name}" if above else str(name)).items()
    }


def another(differing: Sequence[str], theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> str:
    """What differs, the first key with its values: "another KEY (1 there, 2 here and 3 more)"."""
    key = differing[0]
    more = f" and {len(differing) - 1} more" if len(differing) > 1 else ""
    return f"another {key} ({theirs.get(key)!r} there, {ours.get(key)!r} here{more})"


def delete_checkpoints(recipe: Recipe) -> None:
    """Of a finished run, whose student has all of them but the optimizer's state; what loggers wrote there stays."""
    folder = Path(recipe.output) / CHECKPOINTS
    for checkpoint in (*folder.glob("checkpoint-*"), *folder.glob("incomplete-*")):
        shutil.rmtree(checkpoint, ignore_errors=True)
    with suppress(OSError):
        folder.rmdir()


def _last_whole_checkpoint(folder: Path) -> Path | None:
    whole = {}
    for checkpoint in folder.glob("checkpoint-*"):
        step = int(checkpoint.name.removeprefix("checkpoint-"))
        if _is_whole(checkpoint):
            whole[step] = checkpoint
        else:
            with writing(f"output: {folder}"):
                checkpoint.rename(unused(folder / f"incomplete-{step}"))
    return whole[max(whole)] if whole else None


def _is_whole(checkpoint: Path) -> bool:
    try:
        sizes = json.loads((checkpoint / WHOLE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(sizes == _sizes(checkpoint))


def _sizes(checkpoint: Path) -> dict[str, int]:
    files = (path for path in sorted(checkpoint.rglob("*")) if path.is_file() and path.name != WHOLE)
    return {str(path.relative_to(checkpoint)): path.stat().st_size for path in files}


class MarkWholeCheckpoints(TrainerCallback):  # type: ignore[misc]
    """Marks each checkpoint once every process has written its part of it, and has a log line written before it: what
    is resumed would leave the steps since the last line out of the next one's means."""

    def __init__(self, inputs: Mapping[str, str] | None = None) -> None:
        """`inputs`: what `check_inputs` compares, by name; kept in each checkpoint."""
        self.inputs = inputs or {}

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Called by the Trainer when it has decided whether this step is saved."""
        control.should_log = control.should_log or control.should_save

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Called by the Trainer after a checkpoint, in every process."""
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.barrier()
        if state.is_world_process_zero:
            checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            write_atomically(checkpoint / LEARNT_FROM, json.dumps(dict(self.inputs)) + "\n")
            write_atomically(checkpoint / WHOLE, json.dumps(_sizes(checkpoint)) + "\n")
