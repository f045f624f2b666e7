"""Rotary embeddings that depend on the length of the input: ``dynamic`` (NTK) and ``longrope``.

transformers takes the longest row of a batch, padding included, for all of its rows, and ``dynamic`` remembers the
longest that it has read. A text's figures must be those of the text alone (after its prefix), as `generate` and the
published code see it: so only texts of one scaling share a batch, and what is remembered is forgotten before each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True)
class _Rope:
    """One kind of layers in one rotary module; `prefix` begins the names of its buffers."""

    module: nn.Module
    kind: str
    prefix: str
    original: int

    def scaling(self, length: int) -> int:
        """Equal for lengths that are scaled alike."""
        if length <= self.original:
            return 0
        return length if self.kind == "dynamic" else 1

    def forget(self) -> None:
        """Back to the frequencies for short inputs."""
        if self.kind == "dynamic":
            frequencies = getattr(self.module, f"{self.prefix}inv_freq")
            original = getattr(self.module, f"{self.prefix}original_inv_freq").to(frequencies.device)
            self.module.register_buffer(f"{self.prefix}inv_freq", original, persistent=False)
            setattr(self.module, f"{self.prefix}max_seq_len_cached", self.original)


class LengthDependentRope:
    """The rotary modules of a model whose frequencies depend on the length of what it reads; mostly none."""

    def __init__(self, model: nn.Module) -> None:
        self._ropes = [rope for module in model.modules() for rope in _ropes(module)]

    @property
    def kinds(self) -> str:
        """``dynamic``, ``longrope``, both or "", for messages."""
        return " and ".join(sorted({rope.kind for rope in self._ropes}))

    def scaling(self, length: int) -> tuple[int, ...]:
        """Equal for inputs that may share a batch."""
        return tuple(sorted({rope.scaling(length) for rope in self._ropes}))

    def forget(self) -> None:
        """Before each batch: the model as if it had read nothing yet."""
        for rope in self._ropes:
            rope.forget()


def _ropes(module: nn.Module) -> Iterator[_Rope]:
    kinds: Any = getattr(module, "rope_type", None)
    if isinstance(kinds, str):
        kinds = {"": kinds}
    if not isinstance(kinds, Mapping) or not hasattr(module, "config"):
        return
    for layers, kind in kinds.items():
        parameters = getattr(module.config, "rope_parameters", None) or {}
        parameters = parameters.get(layers, {}) if layers else parameters
        prefix = f"{layers}_" if layers else ""
        if "dynamic" in kind:
            yield _Rope(module, "dynamic", prefix, int(module.original_max_seq_len))  # type: ignore[arg-type]
        elif kind == "longrope":
            yield _Rope(module, kind, prefix, int(parameters["original_max_position_embeddings"]))
