"""Batches of texts for a Trainer, in an order that depends on seed and epoch alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler
from transformers import TrainerCallback

from midistill_tasks.distill.cache.layouts import Arrays
from midistill_tasks.distill.cache.store import TeacherCache
from midistill_tasks.distill.data import IGNORED
from midistill_tasks.models.batching import pad

CACHED = "cached_"
BLANK = -1
"""Position of a text that teaches nothing; it fills up the last batch of an epoch."""


class TextDataset(Dataset[dict[str, Any]]):
    """Token ids, and the teacher's cached figures where there are some.

    Args:
        ids: token ids of each text.
        cache: of the texts that `positions` says.
        positions: of each text in the cache.
    """

    def __init__(
        self, ids: Sequence[list[int]], cache: TeacherCache | None = None, positions: Sequence[int] = ()
    ) -> None:
        self.ids, self.cache, self.positions = ids, cache, positions

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, position: int) -> dict[str, Any]:
        blank = position == BLANK
        position = max(position, 0)
        item: dict[str, Any] = {"ids": self.ids[position], "blank": blank}
        if self.cache is not None:
            item["entry"] = self.cache[self.positions[position]]
        return item


class Collator:
    """Items to a batch padded on the right.

    The batch holds ``input_ids``, ``attention_mask``, ``labels`` ([B, L], IGNORED on padding), ``shift_labels`` (label
    of the next token, by which the Trainer counts), and what the cache has, `CACHED` and its name, [B, L, …].

    Args:
        shifted: False where the loss meets each label at its own token, so that a text's first one counts, too.
    """

    def __init__(self, shifted: bool = True) -> None:
        self.shifted = shifted

    def __call__(self, items: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        batch = pad([item["ids"] for item in items], 0)
        scored = batch["attention_mask"].bool() & torch.tensor([[not item["blank"]] for item in items])
        batch["labels"] = batch["input_ids"].masked_fill(~scored, IGNORED)
        next_ones = torch.nn.functional.pad(batch["labels"][:, 1:], (0, 1), value=IGNORED)
        batch["shift_labels"] = next_ones if self.shifted else batch["labels"]
        if "entry" in items[0]:
            batch |= _stack([item["entry"] for item in items], batch["input_ids"].shape[1])
        return batch


def cached(batch: Arrays) -> Arrays:
    """What a batch has of the teacher's cache, by its names there; empty without one."""
    return {name.removeprefix(CACHED): tensor for name, tensor in batch.items() if name.startswith(CACHED)}


def _stack(entries: Sequence[Arrays], length: int) -> dict[str, Tensor]:
    stacked = {}
    for name in entries[0]:
        tensors = [entry[name] for entry in entries]
        out = tensors[0].new_zeros(len(tensors), length, *tensors[0].shape[1:])
        for row, tensor in zip(out, tensors, strict=True):
            row[: len(tensor)] = tensor
        stacked[CACHED + name] = out
    return stacked


class Shuffle(Sampler[int]):
    """A permutation of each epoch, filled up with BLANK to whole batches.

    So two processes with batches of 4 see, step by step, what one process with batches of 8 sees, the last step of an
    epoch included.
    """

    def __init__(self, size: int, multiple: int, seed: int) -> None:
        self.size, self.multiple, self.seed, self.epoch = size, multiple, seed, 0

    def __len__(self) -> int:
        return -(-self.size // self.multiple) * self.multiple

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        yield from torch.randperm(self.size, generator=generator).tolist()
        yield from [BLANK] * (len(self) - self.size)


class TellEpoch(TrainerCallback):  # type: ignore[misc]
    """Tells a `Shuffle` which epoch begins; accelerate's own way does not reach a sampler behind its shards."""

    def __init__(self, shuffle: Shuffle) -> None:
        self.shuffle = shuffle

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Called before the epoch's first batch is drawn, also on resuming within an epoch."""
        self.shuffle.epoch = int(state.epoch or 0)
