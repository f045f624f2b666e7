"""A split as a task of inspect_ai, for who evaluates there: ``inspect eval midistill_tasks/mia`` (extra ``inspect``).

One call of the model a text and view, for `prompt_logprobs`, which inspect's providers for vLLM and SGLang have.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import GenerateConfig, get_model
from inspect_ai.scorer import Metric, SampleScore, Score, Scorer, metric, scorer
from inspect_ai.solver import generate

from midistill_tasks.attacks import ATTACKS
from midistill_tasks.attacks.judging import judged_text
from midistill_tasks.errors import InputError
from midistill_tasks.harness.options import Options, parse_options
from midistill_tasks.metrics import METRICS, Scored
from midistill_tasks.metrics.blind import blind_auroc
from midistill_tasks.results.run import as_number
from midistill_tasks.splits import SPLITS
from midistill_tasks.splits.documents import documents
from midistill_tasks.views import TEXT, TokenStats, View

LOGPROBS = GenerateConfig(prompt_logprobs=1, max_tokens=1, temperature=0.0)


@task  # type: ignore[untyped-decorator]
def mia(split: str = "files", attacks: str | list[str] = "loss,zlib,mink", **options: Any) -> Task:
    """Attacks on a split, from one call of the model a text.

    Args:
        split: one of those of ``midistill tasks``.
        attacks: any of `possible`, with commas.
        options: as ``--metadata '{"mia": {…}}'``: members, nonmembers, n, seed, k, …

    Raises:
        InputError: an unknown split, attack or option; an attack that needs more than log-probabilities.
    """
    found, chosen = SPLITS.get(split), attacks.split(",") if isinstance(attacks, str) else attacks
    if found is None:
        raise InputError(f"there is no split '{split}'; splits: {', '.join(SPLITS)}")
    parsed = parse_options({"mia": options})
    for name in chosen:
        _check(ATTACKS.find(name, "attacks").name, parsed)
    docs = documents(found, parsed.of_split(found)).docs
    blind = blind_auroc(docs["text"][:], docs["label"][:], docs["cluster"][:])
    samples = [
        Sample(doc["text"], id=doc["id"], metadata={"label": doc["label"], "cluster": doc["cluster"]}) for doc in docs
    ]
    return Task(
        dataset=MemoryDataset(samples, name=split),
        solver=generate(),
        scorer=scores(chosen, options),
        config=LOGPROBS,
        metadata={"valid_for": found.valid_for, "blind_auroc": blind.value, "blind_auroc_stderr": blind.stderr},
    )


def possible(name: str, options: Mapping[str, Any]) -> bool:
    """Whether the attack needs no more than the log-probabilities of texts on their own."""
    attack = ATTACKS[name]
    more = attack.fitted or attack.picks or attack.requires or attack.needs - {"logprob", "words"}
    return not more and all(view == View(view.name, view.transform) for view in attack.views_of(options))


def _check(name: str, options: Options) -> None:
    variants = options.variants(name)
    if len(variants) > 1:
        raise InputError(f"{name}: an option that is a list is for lm_eval; here give one value")
    if not possible(name, variants["none"]):
        some = [each for each in ATTACKS if "none" in (of := options.variants(each)) and possible(each, of["none"])]
        raise InputError(f"{name} needs more than inspect's prompt_logprobs; attacks: {', '.join(some)}")


def _figure(of: Callable[[Sequence[Scored]], Any]) -> Metric:
    def figure(found: list[SampleScore]) -> float:  # by whose annotation inspect knows what it takes
        about = [each.sample_metadata or {} for each in found]
        values = [(each.score.as_float(), str(each.sample_id)) for each in found]
        return as_number(of([Scored(a["label"], *value, a["cluster"]) for value, a in zip(values, about, strict=True)]))

    return figure


@metric  # type: ignore[untyped-decorator]
def auroc() -> Metric:
    """As the harness's tasks of midistill have it."""
    return _figure(METRICS["auroc"].value)


@metric  # type: ignore[untyped-decorator]
def auroc_stderr() -> Metric:
    """DeLong's."""
    return _figure(METRICS["auroc"].stderr or (lambda items: math.nan))


@metric  # type: ignore[untyped-decorator]
def tpr_at_1pct_fpr() -> Metric:
    """NaN with fewer than 100 non-members."""
    return _figure(METRICS["tpr_at_1pct_fpr"].value)


@scorer(metrics={"*": [auroc(), auroc_stderr(), tpr_at_1pct_fpr()]})  # type: ignore[untyped-decorator]
def scores(attacks: list[str], options: dict[str, Any]) -> Scorer:
    """The score of each attack; higher = more likely a member."""
    parsed = parse_options({"mia": options})
    variants = {name: parsed.variants(name) for name in attacks}
    views = list(dict.fromkeys(v for name in attacks for v in ATTACKS[name].views_of(variants[name]["none"])))

    async def of(state: Any, target: Any) -> Score:
        text, found = state.input_text, {}
        for view in views:
            shown = view.of(text)
            output = state.output if view == TEXT else await get_model().generate(shown, config=LOGPROBS)
            found[view] = _stats(output, shown)
        made = {name: judged_text(ATTACKS[name], variants[name], found).scores for name in attacks}
        return Score(value={name: of_attack.get("none", math.nan) for name, of_attack in made.items()})

    return of


def _stats(output: Any, text: str) -> TokenStats:
    """Of its tokens but the first; InputError where the provider gives none of its input, or those of another."""
    if not output.choices or (given := output.choices[0].prompt_logprobs) is None:
        raise InputError(
            f"{output.model} gives no prompt_logprobs: take vllm-completions/MODEL, or, for an address of vLLM or "
            "SGLang, openai-api-completions/NAME/MODEL"
        )
    read = _bare(each.token for each in given.content)
    if "\ufffd" not in read and not _bare(text).endswith(read):
        raise InputError(
            f"{output.model} read {len(read)} characters that do not end the text: a chat template? Take a provider of "
            "the completions address, such as vllm-completions"
        )
    return TokenStats(np.array([each.logprob for each in given.content], np.float32), words=text)


def _bare(parts: Iterable[str]) -> str:
    """Without white space, which pieces of tokens may lose."""
    return "".join("".join(parts).split())
