"""SGLang's own address, as its documentation has it; tested with recorded answers only."""

from __future__ import annotations

from typing import Any

from midistill_tasks.scoring.backends.server.base import Echo, ServerScorer
from midistill_tasks.scoring.protocol import scorer


@scorer("SGLANGGENERATEAPI", gives={"logprob", "greedy"})
class SGLangScorer(ServerScorer):
    """``sglang-generate``, as SGLang documents its ``input_token_logprobs``; tested with recorded answers only."""

    def parse(self, outputs: Any) -> list[Echo]:
        """Triples of log-probability, id and text; the generated token has a list of its own."""
        echoes = []
        for output in outputs if isinstance(outputs, list) else [outputs]:
            said = output["meta_info"]
            own = said["input_token_logprobs"]
            tops = [top[0] if top else (None, None) for top in said["input_top_logprobs"]]
            echoes.append(
                Echo([one[0] for one in own], [t[0] for t in tops], [one[1] for one in own], [t[1] for t in tops])
            )
        return echoes
