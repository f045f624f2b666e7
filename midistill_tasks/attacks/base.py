"""What an attack is: the views of a text it needs, the statistics it needs of them, and a pure function of both.

    @attack("loss", "mean log-probability of the text", source="Yeom et al. 2018")
    def loss(text: TokenStats) -> float:
        return mean_logprob(text)

Positional parameters are views, by name; keyword-only ones are options (`midistill_tasks.options`). Nothing else lists
either: tasks, ``--metadata``, recipes and reports ask the attack.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from midistill_tasks.options import Fields, defaults, options_of
from midistill_tasks.registry import Registry
from midistill_tasks.views import (
    AFTER_MEMBER_SHOTS,
    AFTER_SHOTS,
    LOWER,
    REFERENCE,
    TEXT,
    MissingStatisticError,
    Statistic,
    TokenStats,
    View,
)

Views = tuple[View, ...]
STANDARD: Views = (TEXT, REFERENCE, AFTER_SHOTS, AFTER_MEMBER_SHOTS, LOWER)
"""Views that an attack may name in its parameters without listing them."""


@dataclass(frozen=True, eq=False)
class Attack:
    """One membership-inference attack.

    Attributes:
        name: its id in task names, ``mia_<name>_<split>``.
        title: one line for people.
        source: author and year of the paper.
        needs: the statistics that `function` reads; the backend must give them.
        function: ``(*views, **options) -> float``; higher = more likely a member; never called with empty statistics,
            may return NaN where the score is undefined. Of a `fitted` attack ``(views by name, **options) ->
            features``, as many for every text.
        views_of: the views, in the order of the function's parameters, under given options.
        fields: its options.
        by_default: whether it is in the group ``mia_<split>``; in ``mia_all_<split>`` it always is.
        strong: whether it is in ``mia_strong_<split>``, those with the best evidence for fine-tuned models.
        fitted: whether a text has features only, of which a regression on other texts' labels makes the score
            (`metrics.crossfit`).
        picks: whether the features of a `fitted` attack are the scores of others, of which the strongest on the other
            half of the texts is taken; its figures are means over both halves (`metrics.halves`).
        metrics: names of figures that its tasks show beside those of all.
        requires: names of its options that have no default.
        optional: names of views that it does without, where the run has no such model or they cannot be had.
    """

    name: str
    title: str
    source: str
    needs: frozenset[Statistic]
    function: Callable[..., Any]
    views_of: Callable[[Mapping[str, Any]], Views]
    fields: Fields
    by_default: bool = True
    strong: bool = False
    fitted: bool = False
    optional: frozenset[str] = frozenset()
    metrics: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    picks: bool = False

    @property
    def generates(self) -> bool:
        """Whether the model is to write text."""
        return any(view.prompt is not None for view in self.views)

    def learns(self, variants: Mapping[str, Mapping[str, Any]]) -> bool:
        """Whether labels teach its (first) score under these options: from features, or as the best of several."""
        return self.fitted or len(variants) > 1

    def __call__(self, *stats: TokenStats, **options: Any) -> float:
        """The score of one text; options that are not given have their defaults.

        Raises:
            MissingStatisticError: it reads a statistic that it does not need by its own word.
        """
        try:
            return float(self.function(*stats, **{**defaults(self.fields), **options}))
        except MissingStatisticError as error:
            raise MissingStatisticError(
                f"the attack '{self.name}' reads {error}, which these statistics do not hold: name it in its `needs`"
            ) from None

    def score(self, stats: Mapping[str, TokenStats], options: Mapping[str, Any]) -> float:
        """The score from statistics by view name, over the part that all views cover; NaN where that is none."""
        seen = common_part([stats[view.name] for view in self.views_of(options)])
        return self(*seen, **options) if all(map(len, seen)) else math.nan

    def features(self, stats: Mapping[str, TokenStats], options: Mapping[str, Any]) -> list[float]:
        """Of a `fitted` attack, from statistics by view name; empty where no part of the text is in all views.

        One that `picks` gets whole views: the scores are to be those that the attacks have by themselves.
        """
        seen = list(stats.values()) if self.picks else common_part(list(stats.values()))
        if not all(map(len, seen)):
            return []
        return [float(value) for value in self.function(dict(zip(stats, seen, strict=True)), **options)]

    def views_over(self, variants: Mapping[str, Mapping[str, Any]]) -> Views:
        """Those of all of its variants (name → options), each once."""
        return tuple(dict.fromkeys(view for options in variants.values() for view in self.views_of(options)))

    @property
    def views(self) -> Views:
        """The views under its default options."""
        return self.views_of(defaults(self.fields))

    @property
    def knows_labels(self) -> bool:
        """Whether its scores depend on labels beside the model."""
        return self.fitted or any(view.knows_labels for view in self.views)

    @property
    def needs_reference(self) -> bool:
        """Whether it needs a reference model."""
        return any(view.model == "reference" and view.name not in self.optional for view in self.views)

    @property
    def reads_reference(self) -> bool:
        """Whether it takes a reference model, needed or not."""
        return any(view.model == "reference" for view in self.views)

    @property
    def shaped_by(self) -> tuple[str, ...]:
        """The options of a run that its scores depend on: its own and those of its views."""
        corpus = ("corpus",) if "frequency" in self.needs else ()
        return tuple(dict.fromkeys([*self.fields, *corpus, *(name for view in self.views for name in view.options)]))


def covered(stats: Sequence[TokenStats]) -> int | None:
    """How many leading characters all views cover; None where none was cut.

    A view that changes the text may be longer or shorter than another and whole nevertheless.
    """
    return min((view.n_chars for view in stats if view.truncated and view.n_chars is not None), default=None)


def common_part(stats: Sequence[TokenStats]) -> list[TokenStats]:
    """The views of a text, each to its last token within the characters that all of them cover.

    Two models, or a text after a prefix, may hold different amounts of a long text: a mean over its beginning is not to
    be compared with one over the whole.
    """
    end = covered(stats)
    return list(stats) if end is None else [view.head(end) for view in stats]


ATTACKS: Registry[Attack] = Registry(
    "attack",
    "midistill.attacks",
    {
        "loss": "midistill_tasks.attacks.likelihood",
        "zlib": "midistill_tasks.attacks.likelihood",
        "mink": "midistill_tasks.attacks.mink",
        "minkpp": "midistill_tasks.attacks.mink",
        "ref": "midistill_tasks.attacks.likelihood",
        "recall": "midistill_tasks.attacks.recall",
        "lowercase": "midistill_tasks.attacks.likelihood",
        "surp": "midistill_tasks.attacks.mink",
        "dcpdd": "midistill_tasks.attacks.dcpdd",
        "conrecall": "midistill_tasks.attacks.recall",
        "pac": "midistill_tasks.attacks.pac",
        "ez": "midistill_tasks.attacks.paired",
        "wbc": "midistill_tasks.attacks.paired",
        "neighbor": "midistill_tasks.attacks.neighbor",
        "gradnorm": "midistill_tasks.attacks.gradnorm",
        "samia": "midistill_tasks.attacks.generation",
        "extraction": "midistill_tasks.attacks.generation",
        "petal": "midistill_tasks.attacks.petal",
        "camia": "midistill_tasks.attacks.camia",
        "combined": "midistill_tasks.attacks.combined",
        "strongest": "midistill_tasks.attacks.strongest",
    },
)


def attack(
    name: str,
    title: str,
    *,
    source: str,
    needs: Sequence[Statistic] = ("logprob",),
    views: Sequence[View] | Callable[[Mapping[str, Any]], Views] = STANDARD,
    by_default: bool = True,
    strong: bool = False,
    fitted: bool = False,
    optional: Sequence[str] = (),
    metrics: Sequence[str] = (),
    requires: Sequence[str] = (),
    picks: bool = False,
) -> Callable[[Callable[..., Any]], Attack]:
    """Registers a function as an attack.

    Args:
        name: letters, digits and underscores.
        title: one line for people.
        source: author and year.
        needs: of logprob, greedy, moments (mean and std), words, tokens, frequency, gradient.
        views: those beside `STANDARD` that the function's positional parameters name; or, where they depend on options,
            a function from the options to all of them. Of a `fitted` attack all of them.
        by_default: whether the group ``mia_<split>`` has it, and not only ``mia_all_<split>``.
        strong: whether the group ``mia_strong_<split>`` has it.
        fitted: whether the function takes a mapping of views and gives features; see `Attack`.
        optional: names of views of a `fitted` attack that it does without.
        metrics: names of figures that its tasks show beside those of all.
        requires: names of its options without which it cannot run; their default is None.
        picks: see `Attack`.

    Raises:
        TypeError: a positional parameter is no view, or an option is not declared by `option`.
    """

    def register(function: Callable[..., Any]) -> Attack:
        views_of = views if callable(views) else _fixed(tuple(views) if fitted else _by_name(function, views))
        made = Attack(
            name,
            title,
            source,
            frozenset(needs),
            function,
            views_of,
            options_of(function),
            by_default,
            strong,
            fitted,
            frozenset(optional),
            tuple(metrics),
            tuple(requires),
            picks,
        )
        return ATTACKS.register(name, made, function.__module__)

    return register


def _fixed(views: Views) -> Callable[[Mapping[str, Any]], Views]:
    return lambda options: views


def _by_name(function: Callable[..., float], views: Sequence[View]) -> Views:
    known = {view.name: view for view in (*STANDARD, *views)}
    named = [
        name
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY
    ]
    for name in named:
        if name not in known:
            raise TypeError(f"{function.__qualname__}: the parameter '{name}' is no view; views: {', '.join(known)}")
    return tuple(known[name] for name in named)
