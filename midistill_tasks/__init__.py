"""midistill: membership-inference attacks as lm-evaluation-harness tasks, and distillation that leaks less."""

__version__ = "0.1.0"
