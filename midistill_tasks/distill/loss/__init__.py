"""The distillation loss: engine, sources of distributions, divergences."""
