"""The one way of writing: whole or not there, and what fails is told in one sentence."""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from midistill_tasks.errors import InputError

LOG = "midistill.log"
"""In the folder of a run: what was not for people to see. A folder that holds nothing else is as good as empty."""

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_TORCH_S = ("PytorchStreamWriter", "unexpected pos", "iostream error")
_WRONG_PLACE = {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY),
    *(errno.ENAMETOOLONG, errno.EIO),
}


@contextmanager
def writing(place: object, then: str = "") -> Iterator[None]:
    """Turns a failed write into one sentence; other errors pass.

    Args:
        place: what is written, with its key where it has one.
        then: what else to do, or what is safe; after "free some space" or "give a folder that can be written".

    Raises:
        InputError: the disk is full, or the place cannot be written.
    """
    try:
        yield
    except Exception as error:
        remedy = _remedy(error)
        if not remedy:
            raise
        said = getattr(error, "strerror", None) or ("not to its end" if isinstance(error, RuntimeError) else str(error))
        reason = " ".join(said.split())[:200]
        raise InputError(f"{place} cannot be written ({reason}): {remedy}{then}") from error


def _remedy(error: Exception) -> str:
    """What helps, or "" where it is no failed write; safetensors and torch say it in words of their own."""
    text = str(error)
    by_safetensors = type(error).__name__ == "SafetensorError"  # by name: no wheel is built with it
    number = error.errno if isinstance(error, OSError) else None
    torch_failed = isinstance(error, RuntimeError) and any(part in text for part in _TORCH_S)
    if number in _NO_SPACE or "os error 28" in text or "os error 27" in text or torch_failed:
        return "free some space"
    if number in _WRONG_PLACE or (by_safetensors and "os error" in text):
        return "give a folder that can be written"
    return ""


def write_atomically(path: Path, content: bytes | str, then: str = "") -> None:
    """Writes under another name first, so that a killed run never leaves half a file under this one; makes its folder.

    Raises:
        InputError: see `writing`; what stood there is as it was.
    """
    with _whole(path, then) as unfinished:
        unfinished.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def whole_file(path: Path, then: str = "") -> Iterator[TextIO]:
    """The same for what is written bit by bit, in UTF-8: the file appears when the block is through.

    Raises:
        InputError: see `writing`; what stood there is as it was.
    """
    with _whole(path, then) as unfinished, unfinished.open("w", encoding="utf-8", newline="") as file:
        yield file


@contextmanager
def _whole(path: Path, then: str) -> Iterator[Path]:
    unfinished = _unfinished(path)
    with writing(path, then):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield unfinished
            os.replace(unfinished, path)
        finally:
            with suppress(OSError):
                unfinished.unlink(missing_ok=True)


@contextmanager
def whole_folder(folder: Path, key: str = "") -> Iterator[Path]:
    """A folder that appears when the block is through; in it stands another, to be filled, which is empty.

    Whoever uses it holds the folder (`locks.held_beside`): what others left unfinished there is a dead process's.

    Raises:
        InputError: see `writing`; nothing is left then.
    """
    unfinished = _unfinished(folder)
    with writing(f"{key}: {folder}" if key else folder):
        try:
            for left in folder.parent.iterdir():
                if left.name.startswith(f"{folder.name}.") and left.name.endswith("unfinished"):
                    shutil.rmtree(left)
            unfinished.mkdir()
            yield unfinished
            unfinished.rename(folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)


def _unfinished(path: Path) -> Path:
    """A name beside it that no other process has, on this machine or another."""
    return path.with_name(f"{path.name}.{uuid.uuid4().hex[:12]}.unfinished")


def unused(path: Path) -> Path:
    """The path, or with the first number behind it (from ``-2`` on) of which nothing is there yet."""
    number, candidate = 1, path
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.name}-{number}")
    return candidate
