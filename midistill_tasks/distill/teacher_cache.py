"""The teacher's top-k logits on disk: written once, read by any number of students, with no teacher in memory.

What a small k costs, by tests/benchmarks/cache_size.py with SmolLM2-135M (vocabulary 49k): k 8, 32, 128, 1024 take 72,
264, 1032, 8200 bytes a token, and the divergence over the k tokens and one bucket for the rest falls short of the whole
one by 34, 21, 13, 4 % at T = 1, but by 75, 68, 62, 45 % at T = 2, where much of the probability lies in the tail.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
import xxhash
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from midistill_tasks.distill.data import fingerprint
from midistill_tasks.errors import InputError
from midistill_tasks.files import write_atomically
from midistill_tasks.models.batching import pad

SHARD_BYTES = 64 * 2**20
BYTES_PER_LOGIT = 8
"""float32 logit and int32 token id."""


@dataclass(frozen=True)
class Key:
    """What the figures depend on; caches of different keys stand side by side in one folder.

    `vocab` is the number of the tokenizer's tokens: rows beyond it are padding of the teacher's and left out.
    """

    teacher: str
    tokenizer: str
    texts: str
    vocab: int
    temperature: float
    k: int
    max_length: int

    @property
    def name(self) -> str:
        """Of the sub-folder."""
        return fingerprint(asdict(self))[:16]


@dataclass(frozen=True)
class Entry:
    """One text of n tokens, its predictions at tokens 0 … n−2: the k largest logits with their token ids
    ([n−1, k]), and the log-sum-exp of the whole row of logits at T = 1 and of logits/T at the recipe's T ([n−1])."""

    logits: Tensor
    ids: Tensor
    lse: Tensor
    lse_t: Tensor


def hash_weights(model: torch.nn.Module) -> str:
    """xxh3-128 over names, dtypes, shapes and bytes of all weights."""
    digest = xxhash.xxh3_128()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def hash_tokenizer(tokenizer: PreTrainedTokenizerBase) -> str:
    """xxh3-128 of the vocabulary; what the tokenizer makes of the texts is in the key's ``texts``."""
    return fingerprint(sorted(tokenizer.get_vocab().items()))


class TeacherCache:
    """Reads one complete cache; item i is the `Entry` of text i."""

    def __init__(self, folder: Path, lengths: Sequence[int], key: Key) -> None:
        self.key = key
        self._ends = list(accumulate(length - 1 for length in lengths))
        self._per_shard = texts_per_shard(key)
        self._shards = [_shard_path(folder, number) for number in range(_shard_count(len(lengths), key))]
        missing = [path.name for path in self._shards if not path.is_file()]
        if missing:
            raise InputError(f"{folder} is not complete ({len(missing)} shards missing): run it again with the teacher")
        self._open: dict[int, Any] = {}

    def __getitem__(self, position: int) -> Entry:
        number = position // self._per_shard
        before = self._end(number * self._per_shard - 1)
        start, end = self._end(position - 1) - before, self._end(position) - before
        if number not in self._open:
            self._open[number] = safe_open(self._shards[number], framework="pt")
        shard = self._open[number]
        return Entry(*(shard.get_slice(name)[start:end] for name in ("logits", "ids", "lse", "lse_t")))

    def _end(self, position: int) -> int:
        return self._ends[position] if position >= 0 else 0


def texts_per_shard(key: Key) -> int:
    """As many as fill `SHARD_BYTES`, at least one."""
    return max(1, SHARD_BYTES // (key.max_length * key.k * BYTES_PER_LOGIT))


def bytes_needed(lengths: Sequence[int], k: int) -> int:
    """Size on disk."""
    return sum(length - 1 for length in lengths) * (k * BYTES_PER_LOGIT + 8)


def write_cache(
    root: Path,
    key: Key,
    teacher: PreTrainedModel,
    rows: Sequence[Sequence[int]],
    rank: int = 0,
    ranks: int = 1,
    batch_size: int = 8,
) -> Path:
    """Writes what is missing of a cache; a run that was killed goes on at the first missing shard.

    Args:
        root: folder of all caches; this one's is ``root / key.name``.
        rows: token ids of each text, at least two each.
        rank, ranks: this process writes each ``ranks``-th shard.

    Returns:
        The cache's folder; complete once every rank has returned.

    Raises:
        InputError: if the disk is full, or the folder cannot be written.
    """
    folder = root / key.name
    needed = bytes_needed([len(row) for row in rows], key.k) / 1e6
    then = f"; it needs {needed:.0f} MB in all, less with a lower cache.k, and what is there is kept"
    if rank == 0:
        write_atomically(folder / "key.json", json.dumps(asdict(key), indent=2) + "\n", then)
    numbers = range(rank, _shard_count(len(rows), key), ranks)
    todo = [number for number in numbers if not _is_whole(_shard_path(folder, number))]
    for number in tqdm(todo, desc="teacher cache", unit="shard", disable=rank != 0 or not todo):
        first = number * texts_per_shard(key)
        shard = rows[first : first + texts_per_shard(key)]
        write_atomically(_shard_path(folder, number), save(_figures(teacher, shard, key, batch_size)), then)
    return folder


def find_cache(root: Path, key: Key) -> Key:
    """The key of the one cache that differs from `key` in its teacher only.

    Raises:
        InputError: if there is none, or several teachers' stand there.
    """
    keys = []
    for path in sorted(root.glob("*/key.json")):
        other = Key(**json.loads(path.read_text(encoding="utf-8")))
        if asdict(other) | {"teacher": ""} == asdict(key) | {"teacher": ""}:
            keys.append(other)
    if len(keys) != 1:
        raise InputError(
            f"teacher.cache: {root} holds {len(keys)} caches of these texts, tokenizer, T and k: give teacher.model too"
        )
    return keys[0]


def _figures(teacher: PreTrainedModel, rows: Sequence[Sequence[int]], key: Key, batch_size: int) -> dict[str, Tensor]:
    parts = [
        part for start in range(0, len(rows), batch_size) for part in _batch(teacher, rows[start:][:batch_size], key)
    ]
    return {name: torch.cat([getattr(part, name) for part in parts]) for name in ("logits", "ids", "lse", "lse_t")}


def _batch(teacher: PreTrainedModel, rows: Sequence[Sequence[int]], key: Key) -> Iterator[Entry]:
    with torch.inference_mode():
        inputs = {name: tensor.to(teacher.device) for name, tensor in pad(rows, 0).items()}
        logits = teacher(**inputs, use_cache=False).logits
        for row, whole in zip(rows, logits, strict=True):
            z = whole[: len(row) - 1, : key.vocab].float()
            top = z.topk(min(key.k, z.shape[-1]), dim=-1)
            lse, lse_t = z.logsumexp(-1), (z / key.temperature).logsumexp(-1)
            yield Entry(top.values.cpu(), top.indices.int().cpu(), lse.cpu(), lse_t.cpu())


def _shard_count(texts: int, key: Key) -> int:
    return -(-texts // texts_per_shard(key))


def _shard_path(folder: Path, number: int) -> Path:
    return folder / f"shard-{number:06d}.safetensors"


def _is_whole(path: Path) -> bool:
    """Whether a shard is there and as long as its header says."""
    try:
        with safe_open(path, framework="pt"):
            return True
    except (OSError, SafetensorError):
        return False
