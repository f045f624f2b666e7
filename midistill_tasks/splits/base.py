"""What a split is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from midistill_tasks.harness.options import MIAOptions

if TYPE_CHECKING:
    import datasets

Loader = Callable[[MIAOptions, Path | None], "datasets.Dataset"]
"""Options of the run and the local copy, if there is one → columns ``text`` (str), ``label`` (1 member, 0 non-member)
and perhaps ``cluster`` (str: the document a text was cut from), in the split's own order. Nothing is balanced, sampled
or cleaned in a loader: `prepare` does that for all splits alike."""


@dataclass(frozen=True)
class Split:
    """A source of members and non-members: a loader, or the harness's own YAML keys where those are enough."""

    name: str
    title: str
    """One line for lists of tasks."""
    valid_for: str
    """A label is a claim about a model: for which models this one holds."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """YAML keys of the harness (``dataset_path``, ``test_split``, ``doc_to_text`` …); empty where there is a loader."""
    load: Loader | None = None
    downloads: bool = True
    """Whether the texts come from the hub, so that the option ``dataset_path`` may give a local copy."""
    independent_coins: bool = False
    """Whether each text was made a member by a fair coin of its own, which the one-run ε bound needs."""
    citation: str = ""
    paper: bool = False
    """Whether Cui, Zhang and Pei (arXiv 2505.11837) use it."""
