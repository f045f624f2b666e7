"""What a text loses when it is shouted: an attack with a view of its own, after Carlini et al. 2021 (lower case)."""

from midistill_tasks import TokenStats, View, attack

UPPER = View("upper", transform=str.upper)


@attack("shouted", "the text against the text in capitals", source="after Carlini et al. 2021", views=(UPPER,))
def shouted(text: TokenStats, upper: TokenStats) -> float:
    """Mean ℓ minus mean ℓ in capitals, in nats per token: who has seen a text knows its small letters."""
    return float(text.logprob.mean() - upper.logprob.mean())
