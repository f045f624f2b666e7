"""Where members and non-members come from, one module a source.

A new split is a module with a `SPLITS` tuple and its name in the list below. Importing this package loads no data and
none of `datasets`, `pandas` or `faker`. The tests read local copies and stand-ins for the hub; the downloads themselves
have not been run by them.
"""

from __future__ import annotations

from midistill_tasks.splits import bios, canaries, corpora, files, mimir, wikimia, wikitext
from midistill_tasks.splits.base import Split

__all__ = ["SPLITS", "Split"]

SPLITS: dict[str, Split] = {
    split.name: split
    for source in (wikitext, wikimia, mimir, corpora, bios, files, canaries)
    for split in source.SPLITS
}
