"""midistill: membership-inference attacks as lm-evaluation-harness tasks, and distillation that leaks less.

The names in `__all__` are the public API; every other module and name is private and may change with any release. So
are, for files that users made, the doors `midistill_tasks.task` and `midistill_tasks.heldout` (task YAML),
`midistill_tasks.distill.architectures` and `midistill_tasks.distill.surgery` (students in pickles) and
`midistill_tasks.audit`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from midistill_tasks.attacks import ATTACKS as ATTACKS
    from midistill_tasks.attacks import Attack as Attack
    from midistill_tasks.attacks import attack as attack
    from midistill_tasks.compare.meter import metric_results as metric_results
    from midistill_tasks.errors import InputError as InputError
    from midistill_tasks.methods import Intervention as Intervention
    from midistill_tasks.methods import divergence as divergence
    from midistill_tasks.methods import intervention as intervention
    from midistill_tasks.offline.notebook import score_texts as score_texts
    from midistill_tasks.options import option as option
    from midistill_tasks.report.build import build as build_report  # noqa: F401
    from midistill_tasks.report.build import write as write_report  # noqa: F401
    from midistill_tasks.report.findings import Findings as Findings
    from midistill_tasks.report.machine import read_report as read_report
    from midistill_tasks.report.page import Section as Section
    from midistill_tasks.report.sections import section as section
    from midistill_tasks.results.roles import read_group as read_group
    from midistill_tasks.results.table import Table as Table
    from midistill_tasks.scoring.protocol import Encoded as Encoded
    from midistill_tasks.scoring.protocol import HarnessScorer as HarnessScorer
    from midistill_tasks.scoring.protocol import Job as Job
    from midistill_tasks.scoring.protocol import Result as Result
    from midistill_tasks.scoring.protocol import scorer as scorer
    from midistill_tasks.stats.tables import load_stats as load_stats
    from midistill_tasks.study.graph import Part as Part
    from midistill_tasks.study.steps import StudyStep as StudyStep
    from midistill_tasks.study.steps import step as step
    from midistill_tasks.views import AFTER_SHOTS as AFTER_SHOTS
    from midistill_tasks.views import REFERENCE as REFERENCE
    from midistill_tasks.views import TEXT as TEXT
    from midistill_tasks.views import TokenStats as TokenStats
    from midistill_tasks.views import View as View

__version__ = "0.2.1"

_HOMES = {
    "ATTACKS": "midistill_tasks.attacks",
    "Attack": "midistill_tasks.attacks",
    "attack": "midistill_tasks.attacks",
    "metric_results": "midistill_tasks.compare.meter",
    "InputError": "midistill_tasks.errors",
    "Intervention": "midistill_tasks.methods",
    "divergence": "midistill_tasks.methods",
    "intervention": "midistill_tasks.methods",
    "option": "midistill_tasks.options",
    "build_report": "midistill_tasks.report.build:build",
    "write_report": "midistill_tasks.report.build:write",
    "Findings": "midistill_tasks.report.findings",
    "read_report": "midistill_tasks.report.machine",
    "Section": "midistill_tasks.report.page",
    "section": "midistill_tasks.report.sections",
    "read_group": "midistill_tasks.results.roles",
    "load_stats": "midistill_tasks.stats.tables",
    "score_texts": "midistill_tasks.offline.notebook",
    "Table": "midistill_tasks.results.table",
    "Encoded": "midistill_tasks.scoring.protocol",
    "HarnessScorer": "midistill_tasks.scoring.protocol",
    "Job": "midistill_tasks.scoring.protocol",
    "Result": "midistill_tasks.scoring.protocol",
    "scorer": "midistill_tasks.scoring.protocol",
    "Part": "midistill_tasks.study.graph",
    "StudyStep": "midistill_tasks.study.steps",
    "step": "midistill_tasks.study.steps",
    "AFTER_SHOTS": "midistill_tasks.views",
    "REFERENCE": "midistill_tasks.views",
    "TEXT": "midistill_tasks.views",
    "TokenStats": "midistill_tasks.views",
    "View": "midistill_tasks.views",
}
"""Public name → the module that has it (``module:name`` where it has another name there)."""

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _HOMES[name].partition(":")
    return getattr(importlib.import_module(module), attribute or name)


def __dir__() -> list[str]:
    return sorted(__all__)
