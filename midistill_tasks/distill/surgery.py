"""Door for pickles of earlier versions, which name these classes here: see `midistill_tasks.models.layers`."""

from midistill_tasks.models.layers import Bottleneck, NoLayerNorm

__all__ = ["Bottleneck", "NoLayerNorm"]
