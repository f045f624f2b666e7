"""TokenStats on disk, beside the harness's ``--use_cache`` file: a run that was killed goes on where it was.

One SQLite file for all ranks, plain float32 bytes. A key holds everything that the figures depend on: the identity that
the backend gives a model (for ``hf`` a hash over every weight and the configuration), the tokens that were read, and
which of them were scored. The tokenizer and all options act through the tokens, so that no other model's, tokenizer's
or option's figures can ever be served. Each record has a checksum, so that no damaged ones can, either. Whatever is
wrong with the file, the run goes on, at worst without it.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sqlite3
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from midistill_tasks.errors import warn_once
from midistill_tasks.scoring.protocol import Job, Result, Scorer

logger = logging.getLogger(__name__)

_ATTEMPTS = 300
_ALL = 13
_LAYOUTS = {
    _ALL: ("logprob", "mean", "std", "greedy"),
    12: ("logprob", "mean", "std"),
    5: ("logprob", "greedy"),
    4: ("logprob",),
}
"""Bytes a token → which arrays a record holds, in their order."""
_CHECKSUM = 8
"""Bytes at a record's end: xxh3-64 of its key and the rest."""
_NOT_THE_FILE_S_FAULT = ("full", "readonly", "unable to open", "disk I/O", "locked")
"""In the messages of SQLite where the place is wrong; all others say that the file itself is."""


def _use_write_ahead_log(connection: sqlite3.Connection) -> None:
    """Waits for another rank that opens the new file: this one statement ignores the connection's timeout."""
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or attempt == _ATTEMPTS:
                raise
            time.sleep(0.1)


class StatsCache:
    """``get`` and ``put`` results by job, for one model.

    Attributes:
        damaged: how many records were asked for and not served, since their checksum does not hold.
    """

    def __init__(self, path: Path, model: str) -> None:
        self.path, self.model, self.damaged = path, model, 0
        self.connection: sqlite3.Connection | None = None
        self._begun_anew = False
        self._open()

    def get(self, job: Job) -> Result | None:
        """The stored arrays of a job, or None."""
        data = self.read(self._key(job))
        if data is None:
            return None
        arrays: dict[str, Any] = {}
        start = 0
        for name in _LAYOUTS[len(data) // job.scored if job.scored else _ALL]:
            kind = np.dtype(np.bool_ if name == "greedy" else "<f4")
            arrays[name] = np.frombuffer(data, dtype=kind, count=job.scored, offset=start)
            start += kind.itemsize * job.scored
        return Result(**arrays)

    def put(self, job: Job, result: Result) -> None:
        """Stores a job's arrays; safe against ``kill -9`` from the next statement on."""
        floats = [result.logprob, result.mean, result.std]
        data = b"".join(column.astype("<f4").tobytes() for column in floats if column is not None)
        data += b"" if result.greedy is None else result.greedy.astype(np.bool_).tobytes()
        self.write(self._key(job), data)

    def read(self, key: bytes) -> bytes | None:
        """What is stored under a key, unless it is damaged."""
        row = self._execute("SELECT CAST(data AS BLOB) FROM records WHERE key = ?", key)
        if row is None:
            return None
        data, checksum = (row[0] or b"")[:-_CHECKSUM], (row[0] or b"")[-_CHECKSUM:]
        if checksum != _checksum(key, data):
            self.damaged += 1
            return None
        return bytes(data)

    def write(self, key: bytes, data: bytes) -> None:
        """Stores it; the key must hold all that it depends on, the model included."""
        self._execute("INSERT OR REPLACE INTO records VALUES (?, ?)", key, data + _checksum(key, data))

    def say_what_was_found(self, found: int, wanted: int, what: str) -> None:
        """Logs how many of what was wanted were there, and how many were damaged."""
        if found:
            logger.info("%d of %d %s come from %s", found, wanted, what, self.path)
        if self.damaged:
            logger.warning("%d %s are scored again: their records in %s are damaged", self.damaged, what, self.path)

    def close(self) -> None:
        """Closes the file."""
        if self.connection is not None:
            with suppress(sqlite3.Error):
                self.connection.close()
            self.connection = None

    def _key(self, job: Job) -> bytes:
        parts = (np.asarray(ids, dtype="<i8").tobytes() for ids in (job.prefix, job.ids))
        head = f"{self.model}:{len(job.prefix)}:{len(job.ids)}:{job.first}:".encode()
        head += b"" if job.only is None else f"{job.only}:".encode()
        return hashlib.sha256(head + b"".join(parts)).digest()

    def _open(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = _file_number(self.path)
            self.connection = sqlite3.connect(self.path, timeout=120, isolation_level=None)
            _use_write_ahead_log(self.connection)
            self.connection.execute("PRAGMA synchronous=NORMAL")  # outlives a killed process without a sync per text
            self.connection.execute("CREATE TABLE IF NOT EXISTS records (key BLOB PRIMARY KEY, data BLOB)")
            self._file = _file_number(self.path)
        except (OSError, sqlite3.Error) as error:
            self._meet(error)

    def _execute(self, statement: str, *values: bytes) -> Any:
        """The first row, or None."""
        if self.connection is None:
            return None
        try:
            return self.connection.execute(statement, values).fetchone()
        except sqlite3.Error as error:
            self._meet(error)
            return None

    def _meet(self, error: Exception) -> None:
        """Sets a damaged file aside and begins a new one; where none can be written, goes on without."""
        self.close()
        is_damaged = not isinstance(error, OSError) and not any(part in str(error) for part in _NOT_THE_FILE_S_FAULT)
        if is_damaged and not self._begun_anew:
            self._begun_anew = True
            try:
                self._set_aside(error)
            except OSError as reason:
                error = reason
            else:
                return self._open()
        return warn_once(
            f"--use_cache: {self.path} cannot be used ({error}), so the figures of this run are not kept: free some "
            "space, or give a file in a folder that can be written"
        )

    def _set_aside(self, error: Exception) -> None:
        if self._file != _file_number(self.path):  # another rank has done so
            return
        aside = f"{self.path}.damaged"
        for end in ("-wal", "-shm", ""):  # the new file must not read the old one's log
            with suppress(FileNotFoundError):
                os.replace(f"{self.path}{end}", f"{aside}{end}")
        logger.warning("%s is damaged (%s): set aside as %s, its texts are scored again", self.path, error, aside)


def open_cache(scorer: Scorer) -> StatsCache | None:
    """The cache of a model's figures; None without ``--use_cache``, or where nothing tells the model from others."""
    path = scorer.cache_file
    if path is None or (identity := scorer.identity()) is None:
        return None
    return StatsCache(path, identity)


def _checksum(key: bytes, data: bytes) -> bytes:
    return xxhash.xxh3_64_digest(key + data)


def _file_number(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None
