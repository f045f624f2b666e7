"""From a task's documents to its requests: one per document and view."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import datasets
from lm_eval.api.instance import Instance

from midistill_tasks.errors import InputError, warn_once
from midistill_tasks.harness.keys import TaskKeys
from midistill_tasks.scoring.requests import REQUEST_TYPE, Corpus, GenerationRequest, ViewRequest
from midistill_tasks.scoring.run import check_reference
from midistill_tasks.splits.documents import Documents
from midistill_tasks.splits.sources import read_texts
from midistill_tasks.views import Prompt, View

Doc = dict[str, Any]


def say_what_does_not_apply(keys: TaskKeys, flags: Mapping[str, Any]) -> None:
    """Warns, once, of the harness's flags that change nothing here."""
    generates = any(view.prompt for view in keys.views)
    ignored = [key for key in ("apply_chat_template", "system_instruction") if flags.get(key)]
    if generates and "system_instruction" in ignored:  # the template is applied
        warn_once("MIA tasks whose model writes give it the text alone: --system_instruction does not apply")
    elif ignored and not generates:
        warn_once(f"MIA tasks score texts as they are: {' and '.join('--' + key for key in ignored)} does not apply")
    if flags.get("cache_requests") or flags.get("rewrite_requests_cache"):
        warn_once("MIA tasks do not use --cache_requests, whose key ignores --metadata")


def whole_shard(keys: TaskKeys) -> None:
    """Raises InputError for ``--limit`` or ``--samples`` of a shard: together they would not be the split."""
    if keys.options.shard is not None:
        why = f"{keys.task}: with a part of shard {keys.options.shard} the shards are not the split"
        raise InputError(f"{why}: leave --limit and --samples out, and take fewer texts with the option n")


def check(keys: TaskKeys, scored: Sequence[tuple[str, int]]) -> None:
    """Fails before any forward where there can be no figure.

    Raises:
        InputError: the documents that would be scored are of one class only, or the reference is not to be had.
    """
    if len({label for _, label in scored}) < 2:
        raise InputError(
            f"{keys.task}: the {len(scored)} documents to score are of one class; "
            "raise --limit, or name members and non-members in --samples"
        )
    if keys.reference is not None and keys.attack.reads_reference:
        check_reference(keys.reference)


def instances(
    keys: TaskKeys,
    docs: Iterable[tuple[int, Doc]],
    documents: Documents,
    judged: datasets.Dataset,
    scored: Sequence[tuple[str, int]],
    chat: Callable[[list[dict[str, str]]], str] | None = None,
) -> Iterator[Instance]:
    """The requests of this rank.

    Args:
        keys: the task's.
        docs: the harness's number of each document, and the document.
        documents: of the split. With ``log_text`` false `docs` hold no text, and what the harness logs of a request is
            its id.
        judged: `documents.judged_docs`, whose texts are read.
        scored: ids and labels of the documents that the whole run scores; with a shard, those of all shards.
        chat: the model's chat template, where the run applies it to what is to be continued.

    Raises:
        InputError: the texts of the option ``corpus`` cannot be read.
    """
    texts = dict(zip(judged["id"], judged["text"], strict=True))
    corpus = _corpus(keys, documents, scored) if "frequency" in keys.attack.needs else None
    views = keys.views[:1] if keys.left_out else keys.views
    for doc_id, doc in docs:
        shown = doc["text"] if keys.options.run.log_text else doc["id"]
        for index, view in enumerate(views):
            yield Instance(
                request_type=REQUEST_TYPE,
                doc=doc,
                arguments=(
                    str(shown),
                    _request(keys, texts[doc["id"]], view, documents, corpus)
                    if view.prompt is None
                    else _generation(keys, view, view.prompt(texts[doc["id"]]), chat),
                ),
                idx=index,
                metadata=(keys.task, doc_id, 1),
            )


_corpora: WeakKeyDictionary[Documents, Corpus] = WeakKeyDictionary()
"""All texts of a split, in which each run on one of its shards counts tokens."""


def _corpus(keys: TaskKeys, documents: Documents, scored: Sequence[tuple[str, int]]) -> Corpus:
    source = keys.options.run.corpus
    if source is not None:
        return Corpus(read_texts(source, str(keys.options.splits["files"]["column"])))
    warn_once(
        f"[{keys.split_name}] token frequencies are those of the judged texts themselves (labels unused): name other "
        'texts like them with {"mia": {"corpus": …}}'
    )
    if scored is documents.listed:
        return _corpora.setdefault(documents, Corpus(documents.docs["text"]))
    texts = dict(zip(documents.docs["id"], documents.docs["text"], strict=True))
    return Corpus([texts[name] for name, _ in scored])


def _generation(
    keys: TaskKeys, view: View, prompt: Prompt, chat: Callable[[list[dict[str, str]]], str] | None
) -> GenerationRequest:
    context = prompt.context if chat is None else chat([{"role": "user", "content": prompt.context}])
    return GenerationRequest(prompt, view, context, keys.left_out)


def _request(keys: TaskKeys, text: str, view: View, documents: Documents, corpus: Corpus | None) -> ViewRequest:
    shots = {"none": (), "shots": documents.shots, "member_shots": documents.member_shots}
    return ViewRequest(
        text=text,
        view=view,
        shots=shots[view.prefix],
        first_token="always" if view.first_token == "always" else keys.options.run.first_token,
        reference=keys.reference if view.model == "reference" else None,
        skip=keys.left_out,
        attack=keys.attack.name,
        needs=keys.attack.needs,
        corpus=corpus,
    )
