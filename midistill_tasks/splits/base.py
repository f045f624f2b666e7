"""What a split is."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from midistill_tasks.options import Fields, defaults, options_of
from midistill_tasks.splits.options import TextOptions

if TYPE_CHECKING:
    import datasets

Loader = Callable[..., "datasets.Dataset"]
"""``(options: TextOptions, copy: Path | None, *, own options)`` → columns ``text`` (str), ``label`` (1 member, 0
non-member) and perhaps ``cluster`` (str: the document a text was cut from), in the split's own order. `copy` is the
local copy, if there is one. Nothing is balanced, sampled or cleaned in a loader: `documents` does that for all splits
alike. Keyword-only parameters are the split's own options (`midistill_tasks.options.option`)."""


@dataclass(frozen=True, eq=False)
class Split:
    """A source of members and non-members: a loader, or the harness's own YAML keys where those are enough."""

    name: str
    title: str
    """One line for lists of tasks."""
    valid_for: str
    """A label is a claim about a model: for which models this one holds."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """YAML keys of the harness (``dataset_path``, ``test_split``, ``doc_to_text`` …); empty where there is a loader."""
    loader: Loader | None = None
    downloads: bool = True
    """Whether the texts come from the hub, so that the option ``dataset_path`` may give a local copy."""
    independent_coins: bool = False
    """Whether each text was made a member by a fair coin of its own, which the one-run ε bound needs."""
    needs: Mapping[str, Any] = field(default_factory=dict)
    """Options without which there are no texts → an example of each. Tags and patterns leave such a split out."""
    metrics: tuple[str, ...] = ()
    """What its tasks show beside what all show."""
    citation: str = ""
    paper: bool = False
    """Whether Cui, Zhang and Pei (arXiv 2505.11837) use it."""

    @cached_property
    def fields(self) -> Fields:
        """The options that its loader declares."""
        return {} if self.loader is None else options_of(self.loader)

    def lacks(self, options: Mapping[str, Any]) -> str:
        """What it needs and these options lack, to follow its name in a sentence; "" where it lacks nothing."""
        if all(options.get(key) is not None for key in self.needs):
            return ""
        return f"needs your {' and '.join(self.needs)}: --metadata '{json.dumps({'mia': dict(self.needs)})}'"

    def load(self, options: TextOptions, copy: Path | None) -> datasets.Dataset:
        """The loader's rows; for splits that have one."""
        if self.loader is None:
            raise TypeError(f"the split '{self.name}' has no loader")
        return self.loader(options, copy, **{**defaults(self.fields), **options.own})
