"""BookCorpus and OpenWebText against WebInstructSub, as the paper pairs them.

The paper's code reads `bookcorpus`, whose repository holds only a loading script that `datasets` ≥ 4 does not run. The
same sentences stand as Parquet in `rojagtap/bookcorpus`; `Skylion007/openwebtext` and WebInstructSub are Parquet. All
have tens of gigabytes or millions of rows, so the first rows are streamed and no more is downloaded. The two sides are
different kinds of text (BookCorpus even is one lower-cased sentence a row): the blind baseline tells them apart.
"""

from __future__ import annotations

from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from midistill_tasks.splits import hub, readers
from midistill_tasks.splits.base import Split
from midistill_tasks.splits.options import TextOptions

if TYPE_CHECKING:
    import datasets

NONMEMBERS = "chargoddard/WebInstructSub-prometheus"
TEXTS = 10_000
"""Texts taken from the start of each side, or twice the option ``n`` where that is more."""


def load(members: str, options: TextOptions, copy: Path | None) -> datasets.Dataset:
    """Members from hub repository `members` (column ``text``), non-members from WebInstructSub (``generation``).

    A local copy is a folder that holds both repositories as `git clone` names them, by the part after the slash.
    """
    count = max(TEXTS, 2 * (options.n or 0))
    table: readers.Table = {"text": [], "label": []}
    for repository, column, label in ((members, "text", 1), (NONMEMBERS, "generation", 0)):
        where = str(copy / repository.split("/")[1]) if copy else repository
        taken = (
            list(islice(readers.pick_part(readers.read_folder(Path(where)), "train", where), count))
            if copy
            else hub.first_of_hub(repository, "train", count, options.dataset_revision)
        )
        found = {name: [row[name] for row in taken] for name in (taken[0] if taken else ())}
        texts = readers.pick_column(found, column, where)
        table["text"] += texts
        table["label"] += [label] * len(texts)
    return readers.to_dataset(table, members)


def _split(name: str, title: str, members: str, valid_for: str, citation: str) -> Split:
    return Split(name, title, valid_for, loader=partial(load, members), citation=citation, paper=True)


SPLITS = (
    _split(
        "bookcorpus",
        "BookCorpus sentences against WebInstructSub answers, a gross shift (one of the paper's four)",
        "rojagtap/bookcorpus",
        "models trained on BookCorpus and before May 2024 (BERT, GPT-1, their students); the two sides differ in kind",
        """@inproceedings{zhu2015aligning,
  title={Aligning Books and Movies: Towards Story-Like Visual Explanations by Watching Movies and Reading Books},
  author={Zhu, Yukun and Kiros, Ryan and Zemel, Rich and Salakhutdinov, Ruslan and Urtasun, Raquel and Torralba, Antonio
    and Fidler, Sanja},
  booktitle={ICCV},
  year={2015}
}""",
    ),
    _split(
        "openwebtext",
        "OpenWebText pages against WebInstructSub answers, a gross shift (one of the paper's four)",
        "Skylion007/openwebtext",
        "models trained on OpenWebText and before May 2024 (distilgpt2, RoBERTa; GPT-2 as far as WebText overlaps it);"
        " the two sides differ in kind",
        """@misc{gokaslan2019openwebtext,
  title={OpenWebText Corpus},
  author={Gokaslan, Aaron and Cohen, Vanya},
  howpublished={http://Skylion007.github.io/OpenWebTextCorpus},
  year={2019}
}""",
    ),
)
