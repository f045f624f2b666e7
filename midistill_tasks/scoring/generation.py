"""Continuations of texts by the harness's own ``generate_until``, so that every backend that has it serves them."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from midistill_tasks.attacks.generation import STEP
from midistill_tasks.scoring.requests import GenerationRequest
from midistill_tasks.views import Generated, Unscored

logger = logging.getLogger(__name__)

_BEYOND = 8
"""Tokens more than the rest has: the model may begin otherwise."""


def generated(lm: Any, requests: Sequence[GenerationRequest]) -> list[Generated | Unscored]:
    """An answer for each request, in order; where the backend does not generate, they say so."""
    requests = _long_enough(lm, requests)
    why = [_no_room(lm, request) for request in requests]
    able = [request for request, reason in zip(requests, why, strict=True) if not (request.skip or reason)]
    wanted = {_call(request, n): request for request in able for n in _samples(request)}
    calls = [
        SimpleNamespace(args=(request.context, _kwargs(lm, request, number)), repeats=1)
        for (_, _, number), request in wanted.items()
    ]
    try:
        texts = dict(zip(wanted, lm.generate_until(calls) if calls else [], strict=True))
    except NotImplementedError:
        reason = f"the backend {type(lm).__name__} does not generate text"
        logger.error("no figures of attacks that generate: %s", reason)
        return [Unscored(request.skip or reason, whole_task=True) for request in requests]
    return [
        Unscored(request.skip, whole_task=True)
        if request.skip is not None
        else Unscored(reason)
        if reason
        else Generated(tuple(str(texts[_call(request, n)]) for n in _samples(request)), request.prompt.rest)
        for request, reason in zip(requests, why, strict=True)
    ]


def _long_enough(lm: Any, requests: Sequence[GenerationRequest]) -> list[GenerationRequest]:
    """With as many tokens as the text's own rest has, where by words too few were allowed: names and numbers take many,
    and what is cut short can never be the text. Texts that begin alike are asked alike."""
    calls, needed = [_call(request, 0) for request in requests], defaultdict[Any, int](int)
    for call, request in zip(calls, requests, strict=True):
        needed[call] = max(needed[call], 0 if request.skip else _tokens(lm, request.prompt.rest))
    return [_with_room(request, needed[call]) for call, request in zip(calls, requests, strict=True)]


def _with_room(request: GenerationRequest, tokens: int) -> GenerationRequest:
    prompt = request.prompt
    if tokens <= int(prompt.gen_kwargs.get("max_gen_toks", tokens)):
        return request
    kwargs = {**prompt.gen_kwargs, "max_gen_toks": -(-(tokens + _BEYOND) // STEP) * STEP}
    return replace(request, prompt=replace(prompt, gen_kwargs=kwargs))


def _tokens(lm: Any, text: str) -> int:
    """As the model's tokenizer makes them; 0 where there is none, as of a chat API."""
    try:
        return len(lm.tok_encode(text))
    except Exception as error:  # foreign code
        logger.debug("not asked how many tokens a continuation has: %r", error)
        return 0


def _no_room(lm: Any, request: GenerationRequest) -> str:
    """Why the continuation does not fit into a model of this process, which would end the run; "" where it does."""
    room, wanted = getattr(lm, "max_length", None), int(request.prompt.gen_kwargs.get("max_gen_toks", 0))
    if room is None or _is_server(lm) or wanted < room:  # what a server has room for, it says itself
        return ""
    return f"to go on with it may take {wanted} tokens, and the model reads {room} at once"


def _kwargs(lm: Any, request: GenerationRequest, number: int) -> dict[str, Any]:
    """Of the how-manieth sample: the harness asks servers with one seed, by which they would all be the same."""
    kwargs = dict(request.prompt.gen_kwargs)
    return kwargs | {"seed": number} if kwargs["do_sample"] and _is_server(lm) else kwargs


def _is_server(lm: Any) -> bool:
    """Whether the harness asks it by HTTP."""
    return hasattr(lm, "_create_payload")


def _samples(request: GenerationRequest) -> range:
    return range(request.prompt.samples)


def _call(request: GenerationRequest, number: int) -> tuple[str, str, int]:
    """What the model is asked, as the how-manieth sample: equal ones are asked once."""
    return request.context, repr(sorted(request.prompt.gen_kwargs.items())), number
