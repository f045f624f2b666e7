"""Writes a student so that it comes back as it was, or not at all: whole, read again by a fresh process, compared."""

from __future__ import annotations

import os
import shutil
from contextlib import ExitStack
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from midistill_tasks.errors import InputError
from midistill_tasks.files import writing
from midistill_tasks.models.reload import check_reload

UNFINISHED = ".unfinished-model"
"""Folder inside the student's, until everything in it has been written and compared."""

MOVING = ".moving-model"
"""The same folder afterwards, while its files move up: where a killed save left it, they may be replaced."""

_CONFIG = "config.json"  # moved last: without it nothing loads the folder


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: str | os.PathLike[str]) -> None:
    """Writes ``model`` and ``tokenizer`` into ``folder``, whose other files stay; atomic, and compared.

    All is first written to a folder inside, loaded by a fresh process, which must get the same model (`check_reload`),
    and then moved up, ``config.json`` last.

    Raises:
        InputError: the folder holds a model or a file of one already, or the disk is full; nothing there has changed.
        ReloadError: the fresh process got another model, or failed; what was written stays in ``.unfinished-model``.
    """
    folder = Path(folder)
    unfinished, moving = folder / UNFINISHED, folder / MOVING
    if (folder / _CONFIG).exists():
        raise InputError(f"{folder}: already holds a model ({_CONFIG}); give another folder")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file; give the name of a folder")
    with writing(f"the model in {folder}", "; nothing else there has changed"), ExitStack() as undo:
        undo.callback(shutil.rmtree, unfinished, ignore_errors=True)
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        model.save_pretrained(unfinished)
        tokenizer.save_pretrained(unfinished)
        undo.pop_all()
    names = sorted((p.name for p in unfinished.iterdir()), key=lambda name: name == _CONFIG)
    taken = [name for name in names if (folder / name).exists()]
    if taken and not moving.exists():
        shutil.rmtree(unfinished)
        raise InputError(f"{folder}: already holds {taken[0]}, which the model would overwrite; give another folder")
    check_reload(model, tokenizer, unfinished)
    with writing(f"the model in {folder}"):
        shutil.rmtree(moving, ignore_errors=True)
        unfinished.rename(moving)
        for name in names:
            os.replace(moving / name, folder / name)
        moving.rmdir()
