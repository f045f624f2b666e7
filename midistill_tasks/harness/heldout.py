"""The non-members of a split as documents of a plain perplexity task: utility on the texts that privacy is measured on.

Perplexity on texts that nobody trained on says how good a model is; on the members it would say how much it remembers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lm_eval.api.task import ConfigurableTask

from midistill_tasks.errors import InputError
from midistill_tasks.harness.hooks.requests import answer_requests
from midistill_tasks.harness.options import parse_options
from midistill_tasks.scoring.rolling import ROLLING
from midistill_tasks.splits import SPLITS
from midistill_tasks.splits.documents import documents

if TYPE_CHECKING:
    import datasets

answer_requests()


class HeldoutTask(ConfigurableTask):  # type: ignore[misc]
    """The harness's perplexity task, whose answers our cache keeps, a model's apart from another's."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config={key: value for key, value in config.items() if key != "class"})

    def construct_requests(self, doc: Any, ctx: Any, **kwargs: Any) -> Any:
        """The harness's request, of the type that `scoring.rolling` answers."""
        request = super().construct_requests(doc, ctx, **kwargs)
        request.request_type = ROLLING
        return request


def nonmembers(heldout: str, **metadata: Any) -> dict[str, datasets.Dataset]:
    """The harness's ``custom_dataset``: exactly the non-members that the MIA tasks score under the same options.

    Args:
        heldout: name of the split (from the task's ``dataset_kwargs``).
        metadata: what ``--metadata`` and ``--model_args`` say; read here: ``mia``.

    Raises:
        InputError: as `documents`; also where ``log_text`` is false, which cannot be kept here.
    """
    if heldout not in SPLITS:
        raise InputError(f"dataset_kwargs: 'heldout' is '{heldout}', which is no split; splits: {', '.join(SPLITS)}")
    split, options = SPLITS[heldout], parse_options(metadata)
    if not options.run.log_text:
        raise InputError(
            f'heldout_{heldout}: the harness logs what a perplexity task scores, so "log_text": false cannot hold: '
            "leave this task out (mia_privacy_utility holds one), or leave out log_text and --log_samples"
        )
    texts = documents(split, options.of_split(split)).nonmembers
    import datasets

    return {"test": datasets.Dataset.from_dict({"text": texts})}
