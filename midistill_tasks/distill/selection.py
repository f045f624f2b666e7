"""Vulnerable members: those that an attack on the teacher, or a vote of attacks, calls members."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from midistill_tasks.errors import InputError, nearest
from midistill_tasks.files import write_atomically
from midistill_tasks.results.run import AttackResult

Vote = Literal["any", "majority", "all"]
_ENOUGH: dict[Vote, Callable[[int, int], bool]] = {
    "any": lambda called, attacks: called >= 1,
    "majority": lambda called, attacks: 2 * called > attacks,
    "all": lambda called, attacks: called == attacks,
}
_FILES = ("vulnerable.jsonl", "non_vulnerable.jsonl")


@dataclass(frozen=True)
class Selection:
    """The members, divided; each side id → text.

    Attributes:
        called: per attack and for the vote, how many were called members.
        unscored: members that some attacks have no score for, each with those attacks. They do not count under these,
            so a control of as many texts must hold as many of them.
    """

    vulnerable: dict[str, str]
    non_vulnerable: dict[str, str]
    called: dict[str, dict[str, int]]
    unscored: dict[str, list[str]] = field(default_factory=dict)


def called_members(result: AttackResult) -> set[str]:
    """Ids of the texts that the attack calls members, each by a threshold chosen without it (DESIGN, section 6)."""
    return {item.id for item, called in zip(result.items, result.decisions, strict=True) if called}


def select(results: Mapping[str, AttackResult], vote: Vote) -> Selection:
    """Divides the members by the vote of the given attacks on the same texts; `majority` is more than half of them."""
    called = {attack: called_members(result) for attack, result in results.items()}
    first = next(iter(results.values()))
    voted = {name for name in first.by_id if _ENOUGH[vote](sum(name in ids for ids in called.values()), len(called))}
    if len(called) > 1:
        called[f"vote ({vote})"] = voted
    members = {name: text for name, text in first.texts.items() if first.by_id[name].label == 1}
    counts = {
        attack: {
            "members": len(ids & members.keys()),
            "nonmembers": len(ids - members.keys()),
            "without_score": int(np.isnan(results[attack].scores).sum()) if attack in results else 0,
        }
        for attack, ids in called.items()
    }
    return Selection(
        vulnerable={name: text for name, text in members.items() if name in voted},
        non_vulnerable={name: text for name, text in members.items() if name not in voted},
        called=counts,
        unscored={
            name: missing
            for name in members
            if (missing := [attack for attack, result in results.items() if np.isnan(result.by_id[name].score)])
        },
    )


def weak(result: AttackResult) -> str:
    """How well an attack tells the sides apart by the decisions that a selection is made of; "" where it does.

    An attack that does no better than chance calls an arbitrary share of the members vulnerable.
    """
    accuracy = result.intervals["balanced_acc"]
    if accuracy.lower > 0.5:
        return ""
    return (
        f"{result.attack}: balanced accuracy {accuracy.value:.3f} [{accuracy.lower:.3f}, {accuracy.upper:.3f}] is not "
        "above 0.5 beyond its error, so whom it calls vulnerable is arbitrary"
    )


def choose_attacks(results: Mapping[str, AttackResult], attacks: Sequence[str] | None) -> dict[str, AttackResult]:
    """The results of the named attacks, or all.

    Raises:
        InputError: for an attack that is not among them.
    """
    for attack in attacks or ():
        if attack not in results:
            raise InputError(
                f"--attack {attack}: the samples hold {', '.join(results)}{nearest(attack, results)};"
                " run lm_eval with that attack too"
            )
    return {attack: results[attack] for attack in attacks or results}


def write_selection(selection: Selection, folder: Path, how: Mapping[str, object], texts: bool = True) -> None:
    """Writes vulnerable.jsonl, non_vulnerable.jsonl and selection.json (how, and the counts).

    A line of the first two has ``id``, ``text`` (unless `texts` is false: it is for people only) and, where some
    attacks have no score for it, ``unscored``: these.

    Raises:
        InputError: if the folder already holds a selection, or cannot be written.
    """
    if (folder / "selection.json").exists():
        raise InputError(f"{folder} already holds a selection: give another --output, or remove that folder")
    for file, side in zip(_FILES, (selection.vulnerable, selection.non_vulnerable), strict=True):
        rows = (
            {"id": name} | ({"text": text} if texts else {}) | _missing(selection, name) for name, text in side.items()
        )
        write_atomically(folder / file, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    summary = {
        **how,
        "vulnerable": len(selection.vulnerable),
        "non_vulnerable": len(selection.non_vulnerable),
        "called": selection.called,
    }
    write_atomically(folder / "selection.json", json.dumps(summary, indent=2) + "\n")


def _missing(selection: Selection, name: str) -> dict[str, list[str]]:
    return {"unscored": selection.unscored[name]} if name in selection.unscored else {}


Strata = dict[str, tuple[str, ...]]
"""Id of a member → the attacks that have no score for it."""


def read_selection(folder: Path) -> tuple[Strata, Strata]:
    """The vulnerable and the non-vulnerable members.

    Raises:
        InputError: if the folder is not one that `midistill select` wrote.
    """
    if not (folder / "selection.json").is_file():
        raise InputError(f"interventions.selection: {folder} is not a folder that `midistill select` wrote")
    vulnerable, non_vulnerable = (_strata(folder / file) for file in _FILES)
    return vulnerable, non_vulnerable


def _strata(path: Path) -> Strata:
    with path.open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return {str(row["id"]): tuple(row.get("unscored", ())) for row in rows}
