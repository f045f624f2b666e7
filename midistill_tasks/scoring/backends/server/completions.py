"""OpenAI-compatible servers: completions with ``echo``, and chats, which have none."""

from __future__ import annotations

from operator import itemgetter
from typing import Any

from midistill_tasks.scoring.backends.server.base import Echo, ServerScorer
from midistill_tasks.scoring.protocol import HarnessScorer, scorer


@scorer("LocalCompletionsAPI", gives={"logprob", "greedy"})
class CompletionsScorer(ServerScorer):
    """``local-completions`` and ``openai-completions``: ``echo`` with ``logprobs``."""

    def parse(self, outputs: Any) -> list[Echo]:
        """The choices in the order of their prompts, the generated token dropped where it is there."""
        echoes = []
        for choice in sorted(outputs["choices"], key=lambda choice: int(choice["index"])):
            said = choice["logprobs"]
            logprobs = said["token_logprobs"]
            tops = said.get("top_logprobs") or [None] * len(logprobs)
            names = [max(top.items(), key=itemgetter(1))[0] if top else None for top in tops]
            best = [max(top.values()) if top else None for top in tops]
            tokens = said.get("tokens") or [None] * len(logprobs)
            echoes.append(Echo(*(list(column)[:-1] for column in (logprobs, best, tokens, names))))
        return echoes


@scorer("LocalChatCompletion", gives=())
class ChatScorer(HarnessScorer):
    """APIs of chats, which say nothing of what they read."""

    def refuses(self) -> str | None:
        """Always."""
        return (
            "a chat API gives no log-probabilities of a text that it reads: mia_samia_…, mia_petal_… and "
            "mia_extraction_… need none; or use --model local-completions with its completions address"
        )
