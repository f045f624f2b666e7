"""The harness's side of scoring: one call with the requests of all MIA tasks of a run."""

from __future__ import annotations

import contextlib
import gc
import json
import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from midistill_tasks.downloads import remedy
from midistill_tasks.errors import InputError, warn_once
from midistill_tasks.scoring.cache import StatsCache, open_cache
from midistill_tasks.scoring.frequency import Frequencies
from midistill_tasks.scoring.generation import generated
from midistill_tasks.scoring.plan import Answer, plan
from midistill_tasks.scoring.protocol import OUR_SUFFIX, Job, Result, Scorer, ScoringStoppedError, scorer_of
from midistill_tasks.scoring.requests import Corpus, GenerationRequest, ViewRequest
from midistill_tasks.views import OF_TEXT, Generated, TokenStats, Unscored, View

logger = logging.getLogger(__name__)

NOT_FINITE = "the model gave NaN or +inf logits: load it in float32 (--model_args dtype=float32)"


_Kept = dict[tuple[type[Scorer], str], dict[ViewRequest, Answer]]
_kept_of_references: ContextVar[_Kept] = ContextVar("kept_of_references")


@contextlib.contextmanager
def references_kept(kept: _Kept) -> Iterator[None]:
    """Within it a reference model that several runs have in common is loaded and asked once; `kept` is what it said."""
    token = _kept_of_references.set(kept)
    try:
        yield
    finally:
        _kept_of_references.reset(token)


def token_stats(lm: Any, requests: Sequence[Any]) -> list[Answer | Generated]:
    """Answers the requests of all MIA tasks: each distinct view of a text is scored once.

    Args:
        lm: an LM of the harness.
        requests: harness instances whose ``arguments[1]`` is a `ViewRequest` or a `GenerationRequest`.

    Returns:
        One answer per request, in order. Where the backend gives no statistics, or not those that an attack needs, the
        answer says so, and the other tasks of the run still finish.
    """
    asked: list[ViewRequest | GenerationRequest] = [request.args[1] for request in requests]
    of_text = [request for request in asked if isinstance(request, GenerationRequest)]
    scored = iter(statistics(lm, [request for request in asked if isinstance(request, ViewRequest)]))
    made = iter(generated(lm, of_text))
    return [next(scored) if isinstance(request, ViewRequest) else next(made) for request in asked]


def statistics(lm: Any, wanted: Sequence[ViewRequest]) -> list[Answer]:
    """The answers to requests for views, in order, each distinct one scored once."""
    if not wanted:
        return []
    scorer = scorer_of(lm)
    if scorer is not None and (reason := scorer.refuses()):
        return _no_figures(wanted, reason)
    if scorer is None:
        return _no_figures(
            wanted,
            f"the backend {type(lm).__name__} gives no distribution over the vocabulary at each token; "
            "`midistill backends` lists those that do",
        )
    kinds = {_kind(request): request for request in wanted}
    lacking = {kind: _lacking(scorer, request, type(lm).__name__) for kind, request in kinds.items()}
    for reason in filter(None, dict.fromkeys(lacking.values())):
        logger.error("%s", reason)
    by_model: dict[str | None, list[ViewRequest]] = defaultdict(list)
    for request in dict.fromkeys(request for request in wanted if not (request.skip or lacking[_kind(request)])):
        by_model[request.reference].append(request)
    answers: dict[ViewRequest, Answer] = {}
    for reference in sorted(by_model, key=lambda spec: spec or ""):  # the model under evaluation (None) first
        answers.update(_score_under(scorer, reference, by_model[reference]))
        if reference is not None:
            _refuse_the_target(answers, reference, by_model[reference])
            gc.collect()  # a model may hold cycles, and the reference must be gone before the run goes on
    frequencies: dict[Corpus, Frequencies] = {}
    return [
        Unscored(reason, whole_task=True)
        if (reason := request.skip or lacking[_kind(request)])
        else _with_frequency(scorer, request, answers[request], frequencies)
        for request in wanted
    ]


def _with_frequency(scorer: Scorer, request: ViewRequest, answer: Answer, known: dict[Corpus, Frequencies]) -> Answer:
    """The answer, with the tokens' frequencies where they are needed."""
    if request.corpus is None or not isinstance(answer, TokenStats):
        return answer
    if request.corpus not in known:
        known[request.corpus] = Frequencies(scorer, request.corpus.texts)
    return answer.with_frequency(known[request.corpus].of(answer.tokens))


def _kind(request: ViewRequest) -> tuple[str, View]:
    return request.attack, request.view


def _lacking(scorer: Scorer, request: ViewRequest, backend: str) -> str:
    """Why the backend cannot serve the attack that asks with this view; "" where it can."""
    if scorer.pseudo and request.view.prefix != "none":
        return (
            f"the attack '{request.attack}' has no figures of texts after others: {backend} predicts a token from both "
            "sides, so that what stands in front says little"
        )
    missing = sorted(request.needs - scorer.gives - OF_TEXT)
    if not missing:
        return ""
    return (
        f"the attack '{request.attack}' has no figure: it needs {' and '.join(missing)} of each token, which the "
        f"backend {backend} does not give (it gives {', '.join(sorted(scorer.gives))})"
    )


def check_reference(reference: str) -> None:
    """Fails before any forward where a reference model is not to be had.

    Raises:
        InputError: its configuration cannot be read.
    """
    from transformers import AutoConfig

    spec = {} if reference == "base" else json.loads(reference)
    if "pretrained" not in spec or "gguf_file" in spec:
        return
    known = {key: spec[key] for key in ("revision", "subfolder", "trust_remote_code") if key in spec}
    try:
        AutoConfig.from_pretrained(spec["pretrained"], **known)
    except (OSError, ValueError) as error:
        if why := remedy(error, spec["pretrained"]):
            raise InputError(f"the reference model '{spec['pretrained']}' {why}") from None
        raise InputError(
            f"the reference model '{spec['pretrained']}' cannot be loaded ({str(error).splitlines()[0]}); "
            'give a hub name or a folder with a config.json as {"mia": {"reference": …}}'
        ) from None


def _score_under(scorer: Scorer, reference: str | None, requests: list[ViewRequest]) -> dict[ViewRequest, Answer]:
    if reference is None:
        return _score(scorer, requests, "Scoring texts")
    known = {} if reference == "base" else _kept_of_references.get({}).setdefault((type(scorer), reference), {})
    if all(request in known for request in requests):
        return {request: known[request] for request in requests}
    answers = _score_reference(scorer, reference, requests)
    if not any(isinstance(answer, Unscored) and answer.whole_task for answer in answers.values()):
        known.update(answers)
    return answers


def _score_reference(scorer: Scorer, reference: str, requests: list[ViewRequest]) -> dict[ViewRequest, Answer]:
    with contextlib.ExitStack() as stack:
        try:
            other = stack.enter_context(scorer.reference(reference))
        except InputError as error:
            return dict(zip(requests, _no_figures(requests, str(error)), strict=True))
        except Exception as error:  # of any library: the figures of the run's other tasks must not be lost for it
            reason = f"the reference model {reference} cannot be loaded ({error})"
            return dict(zip(requests, _no_figures(requests, reason), strict=True))
        if refused := other.refuses():
            return dict(zip(requests, _no_figures(requests, f"the reference model: {refused}"), strict=True))
        return _score(other, requests, "Scoring texts with the reference model")


def _refuse_the_target(answers: dict[ViewRequest, Answer], reference: str, requests: list[ViewRequest]) -> None:
    """Where the reference gives every text the target's own figures, its answers become the reason why not."""
    of_target = {
        (request.text, request.first_token): answer
        for request, answer in answers.items()
        if request.reference is None and request.view.name == "text" and isinstance(answer, TokenStats)
    }
    pairs = [
        (answer, of_target.get((request.text, request.first_token)))
        for request in requests
        if isinstance(answer := answers[request], TokenStats)
    ]
    if pairs and all(target is not None and np.array_equal(answer.logprob, target.logprob) for answer, target in pairs):
        reason = (
            f"the reference model {reference} gives each text the same probabilities as the model under evaluation: "
            "name another model, like it but not trained on the members"
        )
        answers.update(zip(requests, _no_figures(requests, reason), strict=True))


def _no_figures(requests: Sequence[ViewRequest], reason: str) -> list[Answer]:
    attacks = ", ".join(dict.fromkeys(request.attack for request in requests if request.attack))
    logger.error("no figures%s: %s", f" of {attacks}" if attacks else "", reason)
    return [Unscored(reason, whole_task=True)] * len(requests)


def _score(scorer: Scorer, requests: list[ViewRequest], label: str) -> dict[ViewRequest, Answer]:
    """Answers of one model."""
    if scorer.pseudo:
        warn_once(f"all log-probabilities are of a {scorer.pseudo}: not to be compared with those of causal models")
    planned = plan(scorer, requests)
    answers: dict[ViewRequest, Answer] = dict(planned.unscored)
    for job, result in _results(scorer, list(planned.jobs), label):
        finite = not np.isnan(result.logprob).any()
        for one in planned.jobs[job]:
            answers[one.request] = one.answer(result) if finite else Unscored(NOT_FINITE)
    return answers


def _results(scorer: Scorer, jobs: list[Job], label: str) -> list[tuple[Job, Result]]:
    """Results of jobs, from the cache on disk where they are there."""
    found: list[tuple[Job, Result]] = []
    cache = open_cache(scorer)
    with contextlib.closing(cache) if cache else contextlib.nullcontext():
        missing = []
        for job in jobs:
            result = cache.get(job) if cache and not job.gradient else None
            if result is not None and result.holds(scorer.gives):
                found.append((job, result))
            else:
                missing.append(job)
        if cache:
            cache.say_what_was_found(len(found), len(jobs), "views")
        with tqdm(total=len(missing), desc=label, unit="view", disable=scorer.rank != 0) as bar:

            def done(job: Job, result: Result) -> None:
                if cache and not job.gradient:
                    cache.put(job, result)
                found.append((job, result))
                bar.update()

            try:
                scorer.score(missing, done)
            except ScoringStoppedError as error:
                raise InputError(f"{error}; {_kept(scorer, found, len(jobs))}") from None
    return found


def _kept(scorer: Scorer, found: Sequence[tuple[Job, Result]], wanted: int) -> str:
    """Keeps what is there for another run, and says where."""
    identity = scorer.identity()
    if identity is None:
        return f"{len(found)} of {wanted} views were scored"
    path = scorer.cache_file
    if path is None:
        path = Path(f"midistill-rescued{OUR_SUFFIX}")
        with contextlib.closing(StatsCache(path, identity)) as cache:
            for job, result in found:
                cache.put(job, result)
    name = str(path).removesuffix(OUR_SUFFIX)
    return f"{len(found)} of {wanted} views were scored and are kept: go on with --use_cache {name}"
