"""The harness's ``--model`` names that our scorers know, and the models that we add to them."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from importlib.util import find_spec
from types import ModuleType
from typing import Any, NamedTuple

from midistill_tasks.attacks import ATTACKS, Attack
from midistill_tasks.scoring.protocol import SCORERS
from midistill_tasks.views import OF_TEXT

LMS = {
    "hf-mlm": "midistill_tasks.scoring.backends.hf.mlm:HFMaskedLM",
    "llamacpp": "midistill_tasks.scoring.backends.llamacpp:LlamaCppLM",
}
"""Name → class; the harness imports its module when it is asked for."""


VLLM_EXTENSION = "midistill_tasks.scoring.backends.vllm_worker.Moments"
"""What vLLM's workers are given; idle until a run asks for moments."""


def extend_vllm(module: ModuleType) -> None:
    """Has the harness's vLLM models load `VLLM_EXTENSION`, unless their arguments name another extension."""
    original = module.VLLM.__init__

    @functools.wraps(original)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("worker_extension_cls", VLLM_EXTENSION)
        original(self, *args, **kwargs)

    module.VLLM.__init__ = init


def add_to_harness() -> None:
    """Makes the harness know them; may be called again."""
    import lm_eval.models  # noqa: F401  which registers the harness's own
    from lm_eval.api.registry import model_registry

    for name, place in LMS.items():
        if name not in model_registry:
            model_registry.register(name, target=place)


class Backend(NamedTuple):
    """A name for ``--model``.

    Attributes:
        model: the name.
        lm: the harness's LM class.
        what: for people.
        needs: packages that are imported.
        install: what pip is given for them.
        generates: whether it goes on from texts.
    """

    model: str
    lm: str
    what: str
    needs: tuple[str, ...] = ()
    install: str = ""
    generates: bool = True

    @property
    def installed(self) -> bool:
        """Whether all that it needs is there."""
        return all(find_spec(name) is not None for name in self.needs)

    @property
    def gives(self) -> tuple[str, ...]:
        """The statistics that it gives at best, and ``text`` where it generates."""
        return (*sorted(SCORERS[self.lm].at_best), *(["text"] if self.generates else []))

    def runs(self, attack: Attack) -> bool:
        """Whether an attack can have figures on it."""
        scorer = SCORERS[self.lm]
        if attack.generates:
            return self.generates
        prefixed = any(view.prefix != "none" and view.name not in attack.optional for view in attack.views)
        return attack.needs - OF_TEXT <= scorer.at_best and bool(scorer.at_best) and not (scorer.pseudo and prefixed)

    @property
    def lacks(self) -> list[str]:
        """Attacks without figures on it."""
        return [name for name, attack in ATTACKS.items() if not self.runs(attack)]


_CLIENT, _SERVER = ("tenacity", "aiohttp"), "midistill[server]"
BACKENDS = (
    Backend("hf", "HFLM", "causal models by transformers"),
    Backend("hf-mlm", "HFMaskedLM", "masked language models by transformers: pseudo-log-likelihoods", generates=False),
    Backend("vllm", "VLLM", "vLLM in process", ("vllm",), "midistill[vllm]"),
    Backend("llamacpp", "LlamaCppLM", "GGUF files by llama.cpp in process", ("llama_cpp",), "midistill[llamacpp]"),
    Backend("local-completions", "LocalCompletionsAPI", "OpenAI-compatible servers with echo", _CLIENT, _SERVER),
    Backend("openai-completions", "LocalCompletionsAPI", "OpenAI's, for the models that still echo", _CLIENT, _SERVER),
    Backend("sglang-generate", "SGLANGGENERATEAPI", "SGLang's own address", _CLIENT, _SERVER),
    Backend("local-chat-completions", "LocalChatCompletion", "chat APIs, which give words only", _CLIENT, _SERVER),
    Backend("openai-chat-completions", "LocalChatCompletion", "OpenAI's chats, likewise", _CLIENT, _SERVER),
)


def of_other_packages() -> Iterator[tuple[str, tuple[str, ...]]]:
    """LM classes that scorers of other packages know, and what they give."""
    own = {backend.lm for backend in BACKENDS}
    return ((name, tuple(sorted(SCORERS[name].at_best))) for name in SCORERS if name not in own)
