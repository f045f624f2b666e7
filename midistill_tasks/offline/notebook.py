"""Statistics of any texts as a table, for a notebook."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from midistill_tasks.attacks.base import STANDARD
from midistill_tasks.errors import InputError, nearest
from midistill_tasks.scoring.requests import Corpus, ViewRequest
from midistill_tasks.scoring.run import statistics
from midistill_tasks.splits.documents import text_id
from midistill_tasks.stats import file as stats
from midistill_tasks.views import View

if TYPE_CHECKING:
    import pandas as pd


def score_texts(
    model: Any,
    tokenizer: Any,
    texts: Sequence[str],
    views: Sequence[str | View] = ("text",),
    *,
    shots: Sequence[str] = (),
    member_shots: Sequence[str] = (),
    reference: str | None = None,
    first_token: Literal["skip", "prefix"] = "skip",  # noqa: S107
    batch_size: int = 8,
) -> pd.DataFrame:
    """Statistics of texts under a model, for a notebook: the table of `load_stats`, its rows by view and text.

        stats = score_texts("EleutherAI/pythia-70m", None, texts, views=["text", "lower"])
        stats[stats.view == "text"].logprob.map(numpy.mean)          # the attack `loss`

    Args:
        model: a causal transformers model, or its name or folder.
        tokenizer: its tokenizer, or its name; None = the model's own, by its name.
        texts: [N], any.
        views: names of the standard ones (text, lower, after_shots, after_member_shots, reference), or `View` objects.
        shots: non-members in front of each text, for the views that want them.
        member_shots: members in front.
        reference: name or folder of the reference model, for the view of that name.
        first_token: ``skip`` or ``prefix``, as the option of that name.
        batch_size: texts at once.

    Returns:
        ``label`` is -1 and ``cluster`` the id: nobody said which texts are members. Frequencies are those of `texts`.

    Raises:
        InputError: an unknown view, or one without its shots or reference.
    """
    from lm_eval.models.huggingface import HFLM

    lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size)
    spec = None if reference is None else json.dumps({"pretrained": reference})
    in_front = {"none": (), "shots": tuple(shots), "member_shots": tuple(member_shots)}
    corpus, rows = Corpus(texts), []
    for view in map(_view, views):
        if view.model == "reference" and reference is None:
            raise InputError(f"the view '{view.name}' needs a reference model: give reference=…")
        if view.prompt is not None:
            raise InputError(f"the view '{view.name}' is generated text, which has no statistics")
        if view.prefix != "none" and not in_front[view.prefix]:
            raise InputError(f"the view '{view.name}' needs texts in front: give {view.prefix}=[…]")
        requests = [
            ViewRequest(
                text,
                view,
                in_front[view.prefix],
                "always" if view.first_token == "always" else first_token,
                spec if view.model == "reference" else None,
                corpus=corpus if view.model == "target" else None,
            )
            for text in texts
        ]
        found = statistics(lm, requests)
        for text, one in zip(texts, found, strict=True):
            name = text_id(text)
            rows.append(stats.row_of({"id": name, "label": -1, "cluster": name}, view.name, one, with_text=True))
    return stats.frame(rows, {"model": str(getattr(lm, "pretrained", model)), "split": "texts", "ranks": 1})


def _view(view: str | View) -> View:
    known = {view.name: view for view in STANDARD}
    if isinstance(view, View):
        return view
    if view not in known:
        raise InputError(f"there is no view '{view}'{nearest(view, known)}; views: {', '.join(known)}")
    return known[view]
