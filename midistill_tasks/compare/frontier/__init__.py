"""Privacy at equal utility: arms against the vanilla students of their perplexity."""
