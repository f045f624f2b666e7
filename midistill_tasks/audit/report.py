"""Door: see `midistill_tasks.report.build`."""

from __future__ import annotations

from midistill_tasks.report.build import build, write

__all__ = ["build", "write"]
