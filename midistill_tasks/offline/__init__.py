"""Statistics of tokens apart from a run: attacked without the model, or made for a notebook."""
