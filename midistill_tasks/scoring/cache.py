"""TokenStats on disk, beside the harness's ``--use_cache`` file: a run that was killed goes on where it was.

One SQLite file for all ranks, plain float32 bytes. A key holds everything that the figures depend on: a hash over every
weight and the configuration of the model, the tokens that were read, and which of them were scored. The tokenizer and
all options act through the tokens, so that no other model's, tokenizer's or option's figures can ever be served.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import sqlite3
import time
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from tqdm import tqdm

from midistill_tasks.scoring.backends.hf.causal import Job, Result

logger = logging.getLogger(__name__)

_FORMAT = "midistill-1"
_ATTEMPTS = 300


def cache_path(lm: Any) -> Path | None:
    """The file beside the one that the harness made for ``--use_cache``, or None without that flag."""
    store = getattr(getattr(lm, "cache_hook", None), "dbdict", None)
    if store is None:
        return None
    return Path(re.sub(r"(_rank\d+)?\.db$", "", store.filename) + ".midistill.db")


def fingerprint(lm: Any) -> str | None:
    """Hash over the configuration and every weight of a harness model; None where weights are not in memory."""
    model = lm.model
    config = model.config.to_dict() if hasattr(model.config, "to_dict") else dict(model.config)
    adapters = {name: str(value) for name, value in getattr(model, "peft_config", {}).items()}
    for transient in ("_name_or_path", "transformers_version"):
        config.pop(transient, None)
    active = str(getattr(model, "active_adapters", None)) if adapters else ""
    identity = [_FORMAT, config, adapters, active, str(lm.mixed_precision_dtype)]
    digest = xxhash.xxh3_128(json.dumps(identity, default=str, sort_keys=True).encode())
    tensors = model.state_dict()
    for name, tensor in tqdm(tensors.items(), desc="Hashing weights for the cache", disable=lm.rank != 0, leave=False):
        if not hasattr(tensor, "dtype"):
            digest.update(f"{name}={tensor!r}".encode())
            continue
        if tensor.device.type == "meta":
            logger.warning("--use_cache: weights are offloaded to disk, so TokenStats of this model are not cached")
            return None
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}".encode())
        digest.update(_bytes(tensor))
    return digest.hexdigest()


def _bytes(tensor: Any) -> Any:
    import torch

    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


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
        floats = np.frombuffer(data, dtype="<f4", count=3 * tokens).reshape(3, tokens)
        greedy = np.frombuffer(data, dtype=np.bool_, offset=12 * tokens)
        return (*floats, greedy)

    def put(self, job: Job, result: Result) -> None:
        """Stores a job's arrays; safe against ``kill -9`` from the next statement on."""
        *floats, greedy = result
        data = b"".join(column.astype("<f4").tobytes() for column in floats) + greedy.astype(np.bool_).tobytes()
        self.connection.execute("INSERT OR REPLACE INTO stats VALUES (?, ?, ?)", (self._key(job), job.scored, data))

    def close(self) -> None:
        """Closes the file."""
        self.connection.close()
