"""Which members the student is trained on, by what an attack on the teacher found.

Source: Cui, Zhang, Pei, "On Membership Inference Attacks in Knowledge Distillation" (arXiv 2505.11837).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from pydantic import Field

from midistill_tasks.errors import InputError
from midistill_tasks.methods import Choosing, Intervention, intervention


class _Divided(Choosing):
    def keep(self, members: Sequence[str], seed: int) -> list[int]:
        """What `choose` takes.

        Raises:
            InputError: if the selection does not decide on exactly these members, or nothing is left.
        """
        strata = divided(members, self.selection)
        draw = random.Random(seed)
        kept = sorted(chain.from_iterable(self.choose(*strata[key], draw) for key in sorted(strata)))
        if not kept:
            vulnerable = sum(len(hit) for hit, _ in strata.values())
            raise InputError(
                f"interventions: no member is left to train on ({vulnerable} of {len(members)} are vulnerable)"
            )
        return kept

    def choose(self, vulnerable: list[int], others: list[int], draw: random.Random) -> list[int]:
        """The positions to keep, of the vulnerable members and the others of a stratum (see `divided`)."""
        raise NotImplementedError


@intervention("non_vulnerable", "train on the selection's non-vulnerable members only", control="random_drop")
class NonVulnerable(_Divided):
    """Drops what the attack called a member."""

    def choose(self, vulnerable: list[int], others: list[int], draw: random.Random) -> list[int]:
        """The others."""
        return others


@intervention("vulnerable_plus", "train on the vulnerable members and this share of the others (0.05 = 5 per cent)")
class VulnerablePlus(_Divided):
    """Keeps what the attack called a member, and a share of the rest."""

    share: float = Field(ge=0, le=1)

    def choose(self, vulnerable: list[int], others: list[int], draw: random.Random) -> list[int]:
        """The vulnerable ones and so many of the others."""
        return vulnerable + draw.sample(others, round(self.share * len(others)))


@intervention("random_drop", "control: drop as many members at random as there are vulnerable ones")
class RandomDrop(_Divided):
    """As many texts as `NonVulnerable` leaves, whoever they are, and as many of them that each attack scores.

    Else the control would train on more (or fewer) of the members that are judged than its arm, and a part of what
    divides the two would be that alone.
    """

    def choose(self, vulnerable: list[int], others: list[int], draw: random.Random) -> list[int]:
        """As many as there are others."""
        return draw.sample(sorted(vulnerable + others), len(others))


@intervention("random_keep", "control: train on this share of the texts, drawn at random")
class RandomKeep(Intervention):
    """The first texts of a random order that the seed gives: a smaller share's are among a larger one's."""

    share: float = Field(gt=0, lt=1, description="of the texts")

    def keep(self, members: Sequence[str], seed: int) -> list[int]:
        """At least one."""
        order = random.Random(seed).sample(range(len(members)), len(members))
        return sorted(order[: max(1, round(self.share * len(members)))])


def divided(members: Sequence[str], selection: str) -> dict[tuple[str, ...], tuple[list[int], list[int]]]:
    """Positions of the vulnerable members and of the others, by the attacks that have no score for them: in most
    selections a single stratum, ().

    Raises:
        InputError: if the selection does not decide on exactly these members.
    """
    from midistill_tasks.distill.data import text_id
    from midistill_tasks.distill.selection import read_selection

    folder = Path(selection)
    vulnerable, others = read_selection(folder)
    known = vulnerable | others
    ids = [text_id(text) for text in members]
    undecided = len(set(ids) - known.keys())
    strangers = len(known.keys() - set(ids))
    if undecided or strangers:
        remedy = "run lm_eval and `midistill select` on these texts"
        if not strangers:
            remedy = f"set data.n: {len(known)} and data.seed to that of the harness run"
        raise InputError(
            f"interventions.selection: {folder} decides on {len(known)} members, of which {strangers} are"
            f" not in the data, and {undecided} of the data's {len(ids)} are not in it: {remedy}"
        )
    strata: dict[tuple[str, ...], tuple[list[int], list[int]]] = {}
    for position, name in enumerate(ids):
        strata.setdefault(known[name], ([], []))[name not in vulnerable].append(position)
    return strata
