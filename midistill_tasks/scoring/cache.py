"""TokenStats on disk, beside the harness's ``--use_cache`` file: a run that was killed goes on where it was.

One SQLite file for all ranks, plain float32 bytes. A key holds everything that the figures depend on: the identity that
the backend gives a model (for ``hf`` a hash over every weight and the configuration), the tokens that were read, and
which of them were scored. The tokenizer and all options act through the tokens, so that no other model's, tokenizer's
or option's figures can ever be served.
"""

from __future__ import annotations

import hashlib
import sqlite3
import time
from pathlib import Path
from typing import Any

import numpy as np

from midistill_tasks.scoring.protocol import Job, Result

_ATTEMPTS = 300
_ALL = 13
_LAYOUTS = {
    _ALL: ("logprob", "mean", "std", "greedy"),
    12: ("logprob", "mean", "std"),
    5: ("logprob", "greedy"),
    4: ("logprob",),
}
"""Bytes a token → which arrays a row holds, in their order."""


def _use_write_ahead_log(connection: sqlite3.Connection) -> None:
    """Waits for another rank that opens the new file: this one statement ignores the connection's timeout."""
    for _ in range(_ATTEMPTS):
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError:  # database is locked
            time.sleep(0.1)
    connection.execute("PRAGMA journal_mode=WAL")


class StatsCache:
    """``get`` and ``put`` results by job, for one model."""

    def __init__(self, path: Path, model: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.model = model
        self.connection = sqlite3.connect(path, timeout=120, isolation_level=None)
        _use_write_ahead_log(self.connection)
        self.connection.execute("PRAGMA synchronous=NORMAL")  # outlives a killed process without a sync per text
        self.connection.execute("CREATE TABLE IF NOT EXISTS stats (key BLOB PRIMARY KEY, tokens INTEGER, data BLOB)")

    def _key(self, job: Job) -> bytes:
        parts = (np.asarray(ids, dtype="<i8").tobytes() for ids in (job.prefix, job.ids))
        head = f"{self.model}:{len(job.prefix)}:{len(job.ids)}:{job.first}:".encode()
        return hashlib.sha256(head + b"".join(parts)).digest()

    def get(self, job: Job) -> Result | None:
        """The stored arrays of a job, or None."""
        row = self.connection.execute("SELECT tokens, data FROM stats WHERE key = ?", (self._key(job),)).fetchone()
        if row is None:
            return None
        tokens, data = row
        arrays: dict[str, Any] = {}
        start = 0
        for name in _LAYOUTS[len(data) // tokens if tokens else _ALL]:
            kind = np.dtype(np.bool_ if name == "greedy" else "<f4")
            arrays[name] = np.frombuffer(data, dtype=kind, count=tokens, offset=start)
            start += kind.itemsize * tokens
        return Result(**arrays)

    def put(self, job: Job, result: Result) -> None:
        """Stores a job's arrays; safe against ``kill -9`` from the next statement on."""
        floats = [result.logprob, result.mean, result.std]
        data = b"".join(column.astype("<f4").tobytes() for column in floats if column is not None)
        data += b"" if result.greedy is None else result.greedy.astype(np.bool_).tobytes()
        self.connection.execute("INSERT OR REPLACE INTO stats VALUES (?, ?, ?)", (self._key(job), job.scored, data))

    def close(self) -> None:
        """Closes the file."""
        self.connection.close()
