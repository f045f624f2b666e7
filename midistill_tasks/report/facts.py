"""What was evaluated, when, on which texts and with which version: the few lines below the title."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from midistill_tasks.report.findings import Findings
from midistill_tasks.results.roles import Entry, Group
from midistill_tasks.results.run import AttackResult

LONG = 700
"""Characters from which on they are folded on screen."""
DAY = len("2026-01-02")
FILES = {"members": "members", "nonmembers": "non-members"}
"""Options that name where the texts came from."""


def facts(group: Group, splits: Sequence[Findings], version: str) -> tuple[tuple[str, str], ...]:
    """(name, words), a line each."""
    texts = [(f"Texts of {findings.split}", words) for findings in splits for words in _texts(findings)]
    return (
        ("Evaluated", _dates(group)),
        ("Model" if len(group.runs) == 1 else "Models", "; ".join(_model(entry) for entry in group.entries)),
        *texts,
        *_guarantees(group),
        ("midistill", _versions(group, version)),
    )


def _guarantees(group: Group) -> Iterable[tuple[str, str]]:
    """What the weights of each arm's students guarantee, where anything on the way to them was trained with DP."""
    for arm, students in group.trained.items():
        for sentence in dict.fromkeys(student.guarantee for student in students.values()):
            if sentence:
                yield f"Guarantee of {arm}", sentence


def _dates(group: Group) -> str:
    days = sorted({run.date[:DAY] for run in group.runs})
    return days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"


def _model(entry: Entry) -> str:
    """Its name, and what the harness was given to load where that says more."""
    if len(entry.runs) > 1:
        return f"{entry.name} ({len(entry.runs)} seeds)"
    called = entry.runs[0].config.get("model_args")
    place = called.get("pretrained") or called.get("model") if isinstance(called, Mapping) else None
    return entry.name if place is None or str(place) == entry.name else f"{entry.name} ({place})"


def _texts(findings: Findings) -> Iterable[str]:
    """A line for each set of texts that a model was attacked on; mostly there is one."""
    sets: dict[str, AttackResult] = {}
    for result in findings.results:
        sets.setdefault(str(result.metadata["data_sha256"]), result)
    for digest, result in sets.items():
        counted = f"{result.labels.sum()} members and {(~result.labels).sum()} non-members"
        yield f"{counted}{_files(result.metadata['options'])}; data SHA-256 {digest}"


def _files(options: Mapping[str, Any]) -> str:
    named = [f"{words} {_place(options[key])}" for key, words in FILES.items() if options.get(key)]
    return f", from {', '.join(named)}" if named else ""


def _place(source: Any) -> str:
    return source if isinstance(source, str) else json.dumps(source, ensure_ascii=False, default=str)


def _versions(group: Group, version: str) -> str:
    evaluated = sorted({run.versions["midistill"] for run in group.runs if "midistill" in run.versions})
    return version if not evaluated or evaluated == [version] else f"{', '.join(evaluated)}; this page {version}"


def long(said: Sequence[tuple[str, str]]) -> bool:
    """Whether they are too many to stand open on a screen."""
    return sum(len(name) + len(words) for name, words in said) > LONG
