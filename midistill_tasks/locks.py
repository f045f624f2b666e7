"""A folder that one process at a time works on. The lock is the operating system's: it dies with its holder.

On other machines the holder is known by a lease beside it, as not every shared file system carries such locks.
"""

from __future__ import annotations

import errno
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from midistill_tasks.errors import InputError
from midistill_tasks.files import LOG, writing
from midistill_tasks.lease import HeldElsewhereError, Lease

logger = logging.getLogger(__name__)

_LOCK, _HOLDER = ".midistill.lock", ".midistill.holder"
"""In the folder while it is held; a killed process leaves them, free to take."""

_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP)


class HeldError(InputError):
    """Another process holds it."""


@contextmanager
def held(folder: Path, key: str) -> Iterator[None]:
    """Makes the folder and holds it; one that stays empty is removed again.

    Args:
        folder: to be worked on.
        key: of the recipe or the command line, that names it.

    Raises:
        InputError: another process holds it (which host, which process, since when), or it cannot be written.
    """
    with writing(f"{key}: {folder}"):
        made = not folder.exists()
    try:
        with _locked(folder / _LOCK, folder / _HOLDER, folder, key, wait=False):
            yield
    finally:
        if made:
            with suppress(OSError):  # it is not empty
                folder.rmdir()


@contextmanager
def held_beside(folder: Path, key: str, wait: bool = False) -> Iterator[None]:
    """The same for a folder that appears whole: it need not be there, and the lock stands beside it.

    Args:
        folder: as for `held`.
        key: as for `held`.
        wait: until the other process is through, in place of the error.
    """
    lock, holder = (folder.with_name(f".{folder.name}{name}") for name in (_LOCK, _HOLDER))
    with _locked(lock, holder, folder, key, wait):
        yield


def is_empty(folder: Path) -> bool:
    """Whether a folder holds nothing but our lock and log."""
    return all(path.name in (_LOCK, LOG) or path.name.startswith(_HOLDER) for path in folder.iterdir())


@contextmanager
def _locked(lock: Path, holder: Path, folder: Path, key: str, wait: bool) -> Iterator[None]:
    ours, lease = FileLock(lock), Lease(holder)
    try:
        with writing(f"{key}: {folder}"), _needing_locks(f"{key}: {folder}"):
            lock.parent.mkdir(parents=True, exist_ok=True)
            _acquire(ours, lease, folder, key, wait)
        yield
    finally:
        lease.release()
        if ours.is_locked:
            with suppress(OSError):  # who waits for it finds out that the file is no more, and makes it anew
                lock.unlink(missing_ok=True)
        ours.release()


@contextmanager
def _needing_locks(place: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        raise InputError(
            f"{place} is on a file system without locks ({error.strerror}): give a folder on another one"
        ) from error


def _acquire(ours: FileLock, lease: Lease, folder: Path, key: str, wait: bool) -> None:
    holder = lease.path
    try:
        ours.acquire(timeout=0)
        lease.take(wait=False)
    except (Timeout, HeldElsewhereError):
        at_work = f"another process ({_who(holder)}) is at work on {folder}"
        if not wait:
            another = key.rpartition(".")[2].lstrip("-")
            raise HeldError(f"{key}: {at_work}: wait until it is through, or give another {another}") from None
        logger.info("%s: %s; waiting until it is through", key, at_work)
        if not ours.is_locked:
            ours.acquire()
        lease.take(wait=True)


def _who(holder: Path) -> str:
    try:
        us = json.loads(holder.read_text(encoding="utf-8"))
        return f"host {us['host']}, process {us['pid']}, since {us['since']}"
    except (OSError, ValueError, KeyError, TypeError):  # it is only about to say
        return "it has not said which"
