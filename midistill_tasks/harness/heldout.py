"""The non-members of a split as documents of a plain perplexity task: utility on the texts that privacy is measured on.

Perplexity on texts that nobody trained on says how good a model is; on the members it would say how much it remembers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from midistill_tasks.errors import InputError
from midistill_tasks.harness.options import parse_options
from midistill_tasks.splits import SPLITS
from midistill_tasks.splits.documents import prepare
from midistill_tasks.splits.rows import load_split

if TYPE_CHECKING:
    import datasets


def nonmembers(heldout: str, **metadata: Any) -> dict[str, datasets.Dataset]:
    """The harness's ``custom_dataset``: exactly the non-members that the MIA tasks score under the same options.

    Args:
        heldout: name of the split (from the task's ``dataset_kwargs``).
        metadata: what ``--metadata`` and ``--model_args`` say; read here: ``mia``.

    Raises:
        InputError: as the split's loader and `prepare`; also where ``log_text`` is false, which cannot be kept here.
    """
    if heldout not in SPLITS:
        raise InputError(f"dataset_kwargs: 'heldout' is '{heldout}', which is no split; splits: {', '.join(SPLITS)}")
    split, options = SPLITS[heldout], parse_options(metadata)
    if not options.log_text:
        raise InputError(
            f'heldout_{heldout}: the harness logs what a perplexity task scores, so "log_text": false cannot hold: '
            "leave this task out (mia_privacy_utility holds one), or leave out log_text and --log_samples"
        )
    rows = load_split(split, split.config, options)
    for ours, key in (("text", "doc_to_text"), ("label", "doc_to_target")):
        theirs = split.config.get(key, ours)
        rows = rows.rename_column(theirs, ours) if theirs != ours and theirs in rows.column_names else rows
    docs = prepare(rows, options, heldout).docs
    texts = [text for text, label in zip(docs["text"], docs["label"], strict=True) if label == 0]
    return {"test": type(docs).from_dict({"text": texts})}
