"""Door: see `midistill_tasks.compare.meter`."""

from __future__ import annotations

from midistill_tasks.compare.meter import metric_results

__all__ = ["metric_results"]
