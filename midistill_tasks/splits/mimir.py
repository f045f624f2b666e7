"""MIMIR: train and test texts of seven domains of the Pile, with near duplicates of the train part filtered out."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from midistill_tasks.errors import InputError, nearest
from midistill_tasks.options import option
from midistill_tasks.splits import hub, readers
from midistill_tasks.splits.base import Split
from midistill_tasks.splits.options import TextOptions

if TYPE_CHECKING:
    import datasets

REPOSITORY = "iamgroot42/mimir"
CACHE = "cache_100_200_1000_512"
NGRAMS = ("ngram_13_0.8", "ngram_13_0.2", "ngram_7_0.2")
DOMAINS = {  # the domain in our names → in MIMIR's file names
    "arxiv": "arxiv",
    "dm_mathematics": "dm_mathematics",
    "github": "github",
    "hackernews": "hackernews",
    "pile_cc": "pile_cc",
    "pubmed_central": "pubmed_central",
    "wikipedia": "wikipedia_(en)",
}


def load(
    domain: str,
    options: TextOptions,
    copy: Path | None,
    *,
    ngram: str = option(NGRAMS[0], "the n-gram filter of the non-members"),
) -> datasets.Dataset:
    """Members are the Pile's train texts, non-members its test texts. The hub's loading script no longer runs, so its
    two files are read directly; a local copy is a clone of the repository.

    Raises:
        InputError: an unknown ``ngram``, a missing file, no access to the hub or to this gated data set.
    """
    if ngram not in NGRAMS:
        raise InputError(f"option 'ngram' is '{ngram}'{nearest(ngram, NGRAMS)}; MIMIR has {', '.join(NGRAMS)}")
    texts: list[str] = []
    labels: list[int] = []
    for side, label in (("train", 1), ("test", 0)):
        name = f"{CACHE}/{side}/{DOMAINS[domain]}_{ngram}.jsonl"
        file = copy / name if copy else _download(name, options.dataset_revision)
        new = readers.pick_texts(readers.read_file(file), "text", str(file))
        texts += new
        labels += [label] * len(new)
    return readers.to_dataset({"text": texts, "label": labels}, f"mimir_{domain}")


def _download(name: str, revision: str | None) -> Path:
    return hub.file_of_hub(
        REPOSITORY,
        name,
        revision=revision,
        instead=f'give a clone with --metadata \'{{"mia": {{"dataset_path": "FOLDER"}}}}\' (it holds {CACHE}/)',
        missing=f"try another 'ngram' ({', '.join(NGRAMS)})",
    )


def _split(domain: str) -> Split:
    in_paper = " (one of the paper's four)" if domain == "arxiv" else ""
    return Split(
        name=f"mimir_{domain}",
        title=f"MIMIR, the Pile's {domain}: train against test, filtered by n-gram overlap{in_paper}",
        valid_for="models trained on the Pile as it was released (Pythia, GPT-Neo, GPT-NeoX) and students of theirs",
        loader=partial(load, domain),
        citation="""@inproceedings{duan2024membership,
  title={Do Membership Inference Attacks Work on Large Language Models?},
  author={Duan, Michael and Suri, Anshuman and Mireshghallah, Niloofar and Min, Sewon and Shi, Weijia and Zettlemoyer,
    Luke and Tsvetkov, Yulia and Choi, Yejin and Evans, David and Hajishirzi, Hannaneh},
  booktitle={COLM},
  year={2024}
}""",
        paper=bool(in_paper),
    )


SPLITS = tuple(_split(domain) for domain in DOMAINS)
