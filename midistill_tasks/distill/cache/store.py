"""The teacher's predictions on disk, in shards of texts: written once, read with no teacher in memory.

What of a prediction is kept says a layout (`layouts`); docs/distill.md has what each costs and how right it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
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

from midistill_tasks.distill.cache.layouts import Arrays, Exact, Hidden, Layout, Rounded, Sampled
from midistill_tasks.distill.data import fingerprint
from midistill_tasks.distill.loss.sources import Head, Source
from midistill_tasks.errors import InputError
from midistill_tasks.files import write_atomically
from midistill_tasks.models.batching import pad
from midistill_tasks.models.last_head import head_returns

SHARD_BYTES = 64 * 2**20
_KEY = "key.json"
SINCE_0_1 = {"bits": 32, "samples": 0, "seed": 0, "width": 0}
"""Fields of a key that 0.1.0 did not have, as its caches are: with these their names stay what they were."""


@dataclass(frozen=True)
class Key:
    """What the figures depend on; caches of different keys stand side by side in one folder.

    `vocab` is the number of the tokenizer's tokens: rows beyond it are padding of the teacher's and left out. `k`
    logits a token are kept, in so many `bits`; with `samples` there are as many draws by `seed` instead, with `width`
    hidden states of that width, and `k` is 0.
    """

    teacher: str
    tokenizer: str
    texts: str
    vocab: int
    temperature: float
    k: int
    max_length: int
    bits: int = 32
    samples: int = 0
    seed: int = 0
    width: int = 0

    @property
    def name(self) -> str:
        """Of the sub-folder."""
        fields = asdict(self)
        return fingerprint({name: value for name, value in fields.items() if SINCE_0_1.get(name) != value})[:16]

    @property
    def layout(self) -> Layout:
        """How it is kept."""
        if self.width:
            return Hidden(self.width, self.bits)
        if self.samples:
            return Sampled(self.samples, self.seed, self.temperature, self.vocab)
        return Exact(self.k, self.temperature) if self.bits == 32 else Rounded(self.k, self.temperature, self.vocab)


def hash_weights(model: torch.nn.Module) -> str:
    """xxh3-128 over names, dtypes, shapes and bytes of all weights, and over the interventions of a student of ours:
    with a temperature or a red list it has the very weights of the student without, and other predictions."""
    digest = xxhash.xxh3_128()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    if interventions := getattr(getattr(model, "config", None), "midistill", None):
        digest.update(json.dumps(interventions, sort_keys=True).encode())
    return digest.hexdigest()


def hash_tokenizer(tokenizer: PreTrainedTokenizerBase) -> str:
    """xxh3-128 of the vocabulary; what the tokenizer makes of the texts is in the key's ``texts``."""
    return fingerprint(sorted(tokenizer.get_vocab().items()))


class TeacherCache:
    """Reads one complete cache; item i has the arrays of text i, by name."""

    def __init__(self, folder: Path, lengths: Sequence[int], key: Key) -> None:
        self.key, self.layout = key, key.layout
        self._ends = list(accumulate(length - 1 for length in lengths))
        self._per_shard = texts_per_shard(key)
        self._shards = [_shard_path(folder, number) for number in range(_shard_count(len(lengths), key))]
        missing = [path.name for path in self._shards if not path.is_file()]
        if missing:
            raise InputError(f"{folder} is not complete ({len(missing)} shards missing): run it again with the teacher")
        self._open: dict[int, Any] = {}

    def __getitem__(self, position: int) -> Arrays:
        number = position // self._per_shard
        before = self._end(number * self._per_shard - 1)
        start, end = self._end(position - 1) - before, self._end(position) - before
        if number not in self._open:
            self._open[number] = safe_open(self._shards[number], framework="pt")
        shard = self._open[number]
        return {name: shard.get_slice(name)[start:end] for name in self.layout.names}

    def source(self, batch: Arrays) -> Source:
        """The teacher of a batch, made of its texts' arrays, each padded to [B, T, …]."""
        return self.layout.source(batch, self.key.vocab)

    def _end(self, position: int) -> int:
        return self._ends[position] if position >= 0 else 0


class HiddenCache(TeacherCache):
    """One of a teacher's last hidden states, with the head that makes logits of them."""

    def __init__(self, folder: Path, lengths: Sequence[int], key: Key, head: torch.nn.Linear) -> None:
        super().__init__(folder, lengths, key)
        self.head = head

    def source(self, batch: Arrays) -> Source:
        bias = None if self.head.bias is None else self.head.bias[: self.key.vocab]
        return Head(batch["hidden"], self.head.weight[: self.key.vocab], bias)


def texts_per_shard(key: Key) -> int:
    """As many as fill `SHARD_BYTES`, at least one."""
    return max(1, SHARD_BYTES // (key.max_length * key.layout.bytes_a_token))


def bytes_needed(lengths: Sequence[int], key: Key) -> int:
    """Size on disk."""
    return sum(length - 1 for length in lengths) * key.layout.bytes_a_token


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
    needed = bytes_needed([len(row) for row in rows], key) / 1e6
    less = "" if key.width else f", less with a lower cache.{'samples' if key.samples else 'k'}"
    then = f"; it needs {needed:.0f} MB in all{less}, and what is there is kept"
    if rank == 0:
        write_atomically(folder / _KEY, json.dumps(asdict(key), indent=2) + "\n", then)
    numbers = range(rank, _shard_count(len(rows), key), ranks)
    todo = [number for number in numbers if not _is_whole(_shard_path(folder, number))]
    for number in tqdm(todo, desc="teacher cache", unit="shard", disable=rank != 0 or not todo):
        first = number * texts_per_shard(key)
        shard = rows[first : first + texts_per_shard(key)]
        write_atomically(_shard_path(folder, number), save(_arrays(teacher, shard, key, batch_size)), then)
    return folder


def settled(root: Path, key: Key) -> Key:
    """The key of the cache that 0.1.0 left of the same figures, where there is one, else this one."""
    earlier = replace(key, bits=SINCE_0_1["bits"])
    return earlier if (root / earlier.name / _KEY).is_file() else key


def find_cache(root: Path, key: Key) -> Key:
    """The key of the one cache that differs from `key` in its teacher (and its bits) only.

    Raises:
        InputError: if there is none, or several teachers' stand there.
    """
    keys: dict[str, Key] = {}  # by teacher
    any_of = {"teacher": "", "bits": 0}
    for path in sorted(root.glob(f"*/{_KEY}")):
        other = Key(**json.loads(path.read_text(encoding="utf-8")))
        if asdict(other) | any_of == asdict(key) | any_of:
            keys[other.teacher] = max(other, keys.get(other.teacher, other), key=lambda each: each.bits)
    if len(keys) != 1:
        what = "samples and seed" if key.samples else "k"
        raise InputError(
            f"teacher.cache: {root} holds {len(keys)} caches of these texts, tokenizer, T and {what}: give"
            " teacher.model too"
        )
    return next(iter(keys.values()))


def _arrays(teacher: PreTrainedModel, rows: Sequence[Sequence[int]], key: Key, batch_size: int) -> dict[str, Tensor]:
    parts = [
        part for start in range(0, len(rows), batch_size) for part in _batch(teacher, rows[start:][:batch_size], key)
    ]
    return {name: torch.cat([part[name] for part in parts]).cpu().contiguous() for name in key.layout.names}


def _batch(teacher: PreTrainedModel, rows: Sequence[Sequence[int]], key: Key) -> Iterator[Arrays]:
    bare = head_returns(teacher, lambda hidden, head: hidden) if key.width else nullcontext()
    with torch.inference_mode(), bare:
        inputs = {name: tensor.to(teacher.device) for name, tensor in pad(rows, 0).items()}
        logits = teacher(**inputs, use_cache=False).logits
        for row, whole in zip(rows, logits, strict=True):
            of_row = whole[: len(row) - 1]
            yield key.layout.arrays(of_row if key.width else of_row[:, : key.vocab].float(), row)


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
