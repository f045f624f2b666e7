"""TokenStats through transformers, as the harness loaded the model."""
