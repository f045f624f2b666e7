"""The harness request type of the MIA tasks and what it carries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from midistill_tasks.views import Prompt, Statistic, View

REQUEST_TYPE = "mia_token_stats"
"""The evaluator calls ``getattr(lm, REQUEST_TYPE)(requests)`` once, with the requests of all MIA tasks of the run."""


@dataclass(frozen=True, eq=False)
class Corpus:
    """Texts whose tokens are counted, once for all requests that hold this object."""

    texts: Sequence[str]


@dataclass(frozen=True)
class ViewRequest:
    """One text in one view; equal requests of a run cost one forward.

    Attributes:
        text: as the split has it, before the view's transform.
        view: how it is shown.
        shots: the texts in front, in order; empty unless the view has a prefix. A text is not scored after itself.
        first_token: whether the text's first token is scored: ``skip`` never; ``prefix`` after the shots or, without
            shots, after the harness's prefix token, except where the tokenizer puts that token in front by itself;
            ``always`` also then (as published ReCaLL code does after the shots).
        reference: the reference model as JSON of its model_args, or "base"; None unless the view is of that model.
        skip: why nothing is to be computed (an optional task without what it needs), or None: the harness wants a
            request of every task, and reads its answer.
        attack: who asks, and
        needs: for which statistics, and
        corpus: in which texts the tokens' frequencies are counted, where they are needed; none of these three makes two
            requests different.
    """

    text: str
    view: View
    shots: tuple[str, ...] = ()
    first_token: Literal["skip", "prefix", "always"] = "skip"
    reference: str | None = None
    skip: str | None = None
    attack: str = field(default="", compare=False)
    needs: frozenset[Statistic] = field(default=frozenset({"logprob"}), compare=False)
    corpus: Corpus | None = field(default=None, compare=False)

    def __repr__(self) -> str:
        """What lands in samples_*.jsonl: never the text."""
        return self.view.name


@dataclass(frozen=True)
class GenerationRequest:
    """A text that the model is to continue.

    Attributes:
        prompt: of the view.
        view: how the text is shown.
        context: the prompt's, or a chat that holds it.
        skip: see `ViewRequest`.
    """

    prompt: Prompt
    view: View
    context: str
    skip: str | None = None

    def __repr__(self) -> str:
        return self.view.name
