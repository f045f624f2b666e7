"""The verbs of `midistill` that belong to distillation, one module each."""
