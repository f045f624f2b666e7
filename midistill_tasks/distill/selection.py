"""Vulnerable members: those that an attack on the teacher, or a vote of attacks, calls members."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from midistill_tasks.distill.samples import Row, Samples
from midistill_tasks.errors import InputError, nearest
from midistill_tasks.metrics import Scored
from midistill_tasks.metrics.thresholds import crossfit_decisions

Vote = Literal["any", "majority", "all"]
_ENOUGH: dict[Vote, Callable[[int, int], bool]] = {
    "any": lambda called, attacks: called >= 1,
    "majority": lambda called, attacks: 2 * called > attacks,
    "all": lambda called, attacks: called == attacks,
}


@dataclass(frozen=True)
class Selection:
    """The members, divided; `called` counts, per attack and for the vote, what was called a member."""

    vulnerable: list[Row]
    non_vulnerable: list[Row]
    called: dict[str, dict[str, int]]


def called_members(samples: Samples) -> set[str]:
    """Ids of the texts that the attack calls members, each by a threshold chosen without it (DESIGN, section 6).

    A text without a score is not called a member.
    """
    rows = list(samples.rows.values())
    decisions = crossfit_decisions([Scored(row.label, row.score, row.id, row.cluster) for row in rows])
    return {row.id for row, member in zip(rows, decisions, strict=True) if member}


def select(samples: Mapping[str, Samples], vote: Vote) -> Selection:
    """Divides the members by the vote of the given attacks; `majority` means more than half of them."""
    called = {attack: called_members(one) for attack, one in samples.items()}
    rows = list(next(iter(samples.values())).rows.values())
    voted = {row.id for row in rows if _ENOUGH[vote](sum(row.id in ids for ids in called.values()), len(called))}
    if len(called) > 1:
        called[f"vote ({vote})"] = voted
    members = [row for row in rows if row.label == 1]
    nonmembers = [row for row in rows if row.label == 0]
    counts = {
        name: {
            "members": sum(row.id in ids for row in members),
            "nonmembers": sum(row.id in ids for row in nonmembers),
            "without_score": sum(math.isnan(row.score) for row in samples[name].rows.values())
            if name in samples
            else 0,
        }
        for name, ids in called.items()
    }
    return Selection(
        vulnerable=[row for row in members if row.id in voted],
        non_vulnerable=[row for row in members if row.id not in voted],
        called=counts,
    )


def choose_attacks(samples: Mapping[str, Samples], attacks: Sequence[str] | None) -> dict[str, Samples]:
    """The samples of the named attacks, or all.

    Raises:
        InputError: for an attack that the samples do not hold.
    """
    for attack in attacks or ():
        if attack not in samples:
            raise InputError(
                f"--attack {attack}: the samples hold {', '.join(samples)}{nearest(attack, samples)};"
                " run lm_eval with that attack too"
            )
    return {attack: samples[attack] for attack in attacks or samples}


def write_selection(selection: Selection, folder: Path, how: Mapping[str, object]) -> None:
    """Writes vulnerable.jsonl, non_vulnerable.jsonl (``id``, ``text``) and selection.json (how, and the counts).

    Raises:
        InputError: if the folder already holds a selection.
    """
    if (folder / "selection.json").exists():
        raise InputError(f"{folder} already holds a selection: give another --output, or remove that folder")
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("vulnerable", "non_vulnerable"):
        rows: list[Row] = getattr(selection, name)
        lines = (json.dumps({"id": row.id, "text": row.text}, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    summary = {
        **how,
        "vulnerable": len(selection.vulnerable),
        "non_vulnerable": len(selection.non_vulnerable),
        "called": selection.called,
    }
    (folder / "selection.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")


def read_selection(folder: Path) -> tuple[set[str], set[str]]:
    """Ids of the vulnerable and of the non-vulnerable members.

    Raises:
        InputError: if the folder is not one that `midistill select` wrote.
    """
    if not (folder / "selection.json").is_file():
        raise InputError(f"interventions.selection: {folder} is not a folder that `midistill select` wrote")
    return _ids(folder / "vulnerable.jsonl"), _ids(folder / "non_vulnerable.jsonl")


def _ids(path: Path) -> set[str]:
    with path.open(encoding="utf-8") as lines:
        return {str(json.loads(line)["id"]) for line in lines}
