"""Which texts of a split are taken: the options that all splits share, and what a split adds of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from midistill_tasks.options import Strict


class TextOptions(Strict):
    """Which texts; the same for all splits of a run, but for `own`."""

    shots: int = Field(2, ge=1, description="recall, conrecall: non-members put in front of each text, never scored")
    n: int | None = Field(None, ge=2, description="texts per class, drawn with `seed`; all by default")
    seed: int = Field(0, ge=0, description="of the draw of texts")
    dataset_path: str | dict[str, str] | None = Field(
        None, description="a local copy of the data: a file or a folder, or a map from split to one"
    )
    dataset_revision: str | None = Field(
        None, description="branch, tag or commit of the split's data set on the hub; its newest by default"
    )
    independent_coins: bool = Field(
        False, description="you state that a fair coin of its own made each text a member or not: allows an epsilon"
    )
    own: Mapping[str, Any] = Field(default_factory=dict, description="what the split's loader declares, by name")
