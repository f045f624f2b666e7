"""WikiText-2: passages of its train part against passages of its validation and test parts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from midistill_tasks.splits import hub, readers
from midistill_tasks.splits.base import Split
from midistill_tasks.splits.options import TextOptions

if TYPE_CHECKING:
    import datasets

WORDS = 128
"""Words a passage; an article's last, shorter passage is left out."""


def load(options: TextOptions, copy: Path | None) -> datasets.Dataset:
    """Members from ``train``, then non-members from ``validation`` and ``test``; ``cluster`` is the article.

    A local copy is a folder with the three parts (``train.txt`` …) or a clone of the hub repository.
    """
    name = "wikitext-2-raw-v1"
    data = (
        readers.read_folder(copy, name)
        if copy
        else hub.from_hub("Salesforce/wikitext", name, revision=options.dataset_revision)
    )
    table: readers.Table = {"text": [], "label": [], "cluster": []}
    for part, label in (("train", 1), ("validation", 0), ("test", 0)):
        rows = readers.pick_part(data, part, str(copy or "Salesforce/wikitext"))
        for number, (title, paragraphs) in enumerate(articles(rows["text"])):
            for passage in passages(paragraphs):
                table["text"].append(passage)
                table["label"].append(label)
                table["cluster"].append(f"{title} ({part} {number})")
    return readers.to_dataset(table, "wikitext")


def articles(lines: Iterable[str]) -> Iterator[tuple[str, list[str]]]:
    """Title and paragraphs of each article, without headings.

    A title is a line ``= Title =`` between two blank lines; a formula that looks like one has text beside it.
    """
    stripped = ["", *(line.strip() for line in lines), ""]
    title: str | None = None
    paragraphs: list[str] = []
    for before, line, after in zip(stripped, stripped[1:], stripped[2:], strict=False):
        if _TITLE.fullmatch(line) and not before and not after:
            if title is not None:
                yield title, paragraphs
            title, paragraphs = line.strip("= "), []
        elif line and not _HEADING.fullmatch(line):
            paragraphs.append(line)
    if title is not None:
        yield title, paragraphs


def passages(paragraphs: Iterable[str], words: int = WORDS) -> Iterator[str]:
    """Consecutive passages of exactly `words` words, broken into lines as the corpus is."""
    stream: list[str] = []
    for paragraph in paragraphs:
        stream += paragraph.split()
        stream[-1] += " \n"
    for start in range(0, len(stream) - words + 1, words):
        yield " ".join(stream[start : start + words]).strip()


_TITLE = re.compile(r"= (?!=).*(?<!=) =")
_HEADING = re.compile(r"= = .* = =")

SPLITS = (
    Split(
        name="wikitext",
        title="WikiText-2 passages of 128 words: train against validation and test",
        valid_for=(
            "models trained or fine-tuned on WikiText-2's train part and on no more of Wikipedia (not Pythia, which saw"
            " both sides; not GPT-2, which saw neither)"
        ),
        loader=load,
        citation="""@inproceedings{merity2017pointer,
  title={Pointer Sentinel Mixture Models},
  author={Merity, Stephen and Xiong, Caiming and Bradbury, James and Socher, Richard},
  booktitle={ICLR},
  year={2017}
}""",
    ),
)
