"""The harness's side of scoring: one call with the requests of all MIA tasks of a run."""

from __future__ import annotations

import contextlib
import gc
import json
import logging
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

from midistill_tasks.errors import InputError
from midistill_tasks.scoring.backends.hf.causal import HFScorer, Job, Result, to_stats
from midistill_tasks.scoring.cache import StatsCache, cache_path, fingerprint
from midistill_tasks.scoring.requests import REQUEST_TYPE, ViewRequest
from midistill_tasks.views import TokenStats, Unscored

logger = logging.getLogger(__name__)

Answer = TokenStats | Unscored


def install() -> None:
    """Gives the harness's model classes the method that answers our request type; may be called again."""
    from lm_eval.api.model import LM
    from lm_eval.models.huggingface import HFLM

    setattr(LM, REQUEST_TYPE, _unsupported)
    setattr(HFLM, REQUEST_TYPE, token_stats)
    # What we say in a run belongs into the run's log, at its level and in its format.
    logging.getLogger("midistill_tasks").parent = logging.getLogger("lm_eval")


def _unsupported(lm: Any, requests: Sequence[Any]) -> list[Answer]:
    """Answers for a backend without token statistics, so that the other tasks of the run still finish."""
    reason = (
        f"the backend {type(lm).__name__} gives no distribution over the vocabulary at each token; "
        "use --model hf for the MIA tasks"
    )
    logger.error("MIA tasks report nothing: %s", reason)
    return [Unscored(reason, whole_task=True)] * len(requests)


def token_stats(lm: Any, requests: Sequence[Any]) -> list[Answer]:
    """Answers the requests of all MIA tasks: each distinct view of a text is scored once.

    Args:
        lm: an `HFLM`.
        requests: harness instances whose ``arguments[1]`` is a `ViewRequest`.

    Returns:
        One answer per request, in order.
    """
    wanted = [request.args[1] for request in requests]
    answers: dict[ViewRequest, Answer] = {view: Unscored(view.skip, whole_task=True) for view in wanted if view.skip}
    by_model: dict[str | None, list[ViewRequest]] = defaultdict(list)
    for view in dict.fromkeys(wanted):
        if view not in answers:
            by_model[view.reference].append(view)
    for reference in sorted(by_model, key=lambda spec: spec or ""):  # the model under evaluation (None) first
        answers.update(_score_under(lm, reference, by_model[reference]))
        if reference is not None:
            gc.collect()  # a model may hold cycles, and the reference must be gone before the run goes on
    return [answers[view] for view in wanted]


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
        raise InputError(
            f"the reference model '{spec['pretrained']}' cannot be loaded ({str(error).splitlines()[0]}); "
            'give a hub name or a folder with a config.json as {"mia": {"reference": …}}'
        ) from None


def _score_under(lm: Any, reference: str | None, views: list[ViewRequest]) -> dict[ViewRequest, Answer]:
    if reference is None:
        return _score(lm, views, "Scoring texts")
    label = "Scoring texts with the reference model"
    if reference == "base":
        if not hasattr(lm.model, "disable_adapter"):
            return _no_figures(views, "reference 'base' is the target without its adapter, and this model has none")
        with lm.model.disable_adapter():
            return _score(lm, views, label, variant=":base")
    try:
        other = _load_reference(lm, json.loads(reference))
    except Exception as error:  # of any library: the figures of the run's other tasks must not be lost for it
        return _no_figures(views, f"the reference model {reference} cannot be loaded ({error})")
    return _score(other, views, label)


def _no_figures(views: list[ViewRequest], reason: str) -> dict[ViewRequest, Answer]:
    logger.error("MIA tasks report nothing: %s", reason)
    return dict.fromkeys(views, Unscored(reason, whole_task=True))


def _load_reference(lm: Any, spec: dict[str, Any]) -> Any:
    logger.info("Loading the reference model %s", spec.get("pretrained", spec))
    given = {"batch_size": lm.batch_size, "max_batch_size": lm.max_batch_size, "device": str(lm.device)} | spec
    other = type(lm).create_from_arg_obj(given)
    other._rank, other._world_size = lm.rank, lm.world_size
    other.cache_hook = lm.cache_hook
    return other


def _score(lm: Any, views: list[ViewRequest], label: str, variant: str = "") -> dict[ViewRequest, Answer]:
    """Answers of one model; `variant` tells apart in the cache what its weights do not: an adapter switched off."""
    if (reason := _not_causal(lm)) is not None:
        return _no_figures(views, reason)
    answers: dict[ViewRequest, Answer] = {}
    prefixes: dict[tuple[str, ...], tuple[int, ...]] = {(): ()}
    for shots in {view.shots for view in views} - {()}:
        try:
            prefixes[shots] = _prefix(lm, shots)
        except InputError as error:
            answers |= _no_figures([view for view in views if view.shots == shots], str(error))
    scorer = HFScorer(lm)
    jobs: dict[Job, list[tuple[ViewRequest, int, bool]]] = defaultdict(list)
    for view in tqdm(views, desc="Tokenizing texts", disable=lm.rank != 0, leave=False):
        if view in answers:
            continue
        job, n_chars, truncated = _job(scorer, view, prefixes[view.shots])
        if job.scored == 0:
            answers[view] = Unscored("its only token is the first, which is never scored")
        else:
            jobs[job].append((view, n_chars, truncated))
    for job, result in _results(scorer, list(jobs), label, variant):
        answers.update({view: to_stats(result, n_chars, truncated) for view, n_chars, truncated in jobs[job]})
    return answers


def _results(scorer: HFScorer, jobs: list[Job], label: str, variant: str) -> list[tuple[Job, Result]]:
    """Results of jobs, from the cache on disk where they are there."""
    lm = scorer.lm
    found: list[tuple[Job, Result]] = []
    cache = _open_cache(lm, variant)
    with contextlib.closing(cache) if cache else contextlib.nullcontext():
        missing = []
        for job in jobs:
            if cache and (result := cache.get(job)) is not None:
                found.append((job, result))
            else:
                missing.append(job)
        if cache and found:
            logger.info("%d of %d views come from %s", len(found), len(jobs), cache_path(lm))
        with tqdm(total=len(missing), desc=label, unit="view", disable=lm.rank != 0) as bar:

            def done(job: Job, result: Result) -> None:
                if cache:
                    cache.put(job, result)
                found.append((job, result))
                bar.update()

            scorer.score(missing, done)
    return found


def _open_cache(lm: Any, variant: str) -> StatsCache | None:
    path = cache_path(lm)
    if path is None or (key := fingerprint(lm)) is None:
        return None
    return StatsCache(path, key + variant)


def _not_causal(lm: Any) -> str | None:
    if lm.backend != "causal":
        return f"{type(lm.model).__name__} is an encoder-decoder model, and these attacks need a causal one"
    if getattr(lm, "tokenizer", None) is None:
        return "the model has no tokenizer; name one with --model_args tokenizer=…"
    return None


def _prefix(lm: Any, shots: tuple[str, ...]) -> tuple[int, ...]:
    """Token ids of the ReCaLL prefix: whole shots only, from the first, in at most half of the model's length."""
    room = lm.max_length // 2
    for count in range(len(shots), 0, -1):
        ids = tuple(lm.tok_encode("".join(shots[:count])))
        if len(ids) <= room:
            if count < len(shots):
                kept = (count, len(shots), room)
                logger.warning("recall: only %d of %d shots fit into half of the model's length (%d tokens)", *kept)
            return ids
    raise InputError(
        f"recall: the first shot alone has {len(ids)} tokens, more than half of the model's {2 * room}; "
        "use a split with shorter texts or --model_args max_length=…"
    )


def _job(scorer: HFScorer, view: ViewRequest, prefix: tuple[int, ...]) -> tuple[Job, int, bool]:
    """A view's tokens, how many characters of the text they cover, and whether the text was cut."""
    ids = tuple(scorer.lm.tok_encode(view.text))
    lead: tuple[int, ...] = ()
    first_counts = view.first_token == "always"
    if view.first_token == "prefix" and ids[:1] != (scorer.lm.prefix_token_id,):  # else the tokenizer puts it there
        first_counts = True
        lead = () if prefix else (int(scorer.lm.prefix_token_id),)
    kept = ids[: int(scorer.lm.max_length) - len(prefix) - len(lead)]
    cut = len(kept) < len(ids)
    job = Job(lead + kept, prefix, first=0 if prefix and first_counts else 1)
    return job, scorer.covered(view.text, kept) if cut else len(view.text), cut
