"""DC-PDD: the probabilities of a text's tokens against how often these tokens occur anywhere."""

from __future__ import annotations

import numpy as np

from midistill_tasks.attacks.base import attack
from midistill_tasks.options import option
from midistill_tasks.views import TokenStats


@attack(
    "dcpdd",
    "DC-PDD: probabilities of the tokens against their frequencies in a corpus",
    source="Zhang et al. 2024",
    needs=("logprob", "tokens", "frequency"),
    by_default=False,
)
def dcpdd(text: TokenStats, *, cap: float = option(0.01, "a token's largest contribution", gt=0)) -> float:
    """Mean of min(p_t · ln(1/f_t), cap) over each token's first occurrence (Zhang et al. 2024, "Pretraining data
    detection for large language models: a divergence-based calibration method").

    p_t = exp ℓ_t; f_t is the token's add-one frequency in the run's option ``corpus``, or in all judged texts together,
    whose labels are not used. A surely predicted rare token speaks for a member.

    Against the paper: without ``corpus`` the frequencies are those of the judged texts, not of a large public corpus.
    """
    first = np.unique(text.tokens, return_index=True)[1]
    probability = np.exp(text.logprob[first].astype(np.float64))
    return float(np.mean(np.minimum(-probability * np.log(text.frequency[first].astype(np.float64)), cap)))
