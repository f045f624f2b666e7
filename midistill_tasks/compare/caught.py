"""What an accuser reaches: members found while hardly a non-member is accused, in whole numbers of texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import betabinom

from midistill_tasks.metrics.roc import tpr_at_fpr
from midistill_tasks.results.run import AttackResult


class Caught(NamedTuple):
    """What an accuser reaches by the strongest attack who may be wrong about one non-member in a hundred (or one).

    Attributes:
        accused: non-members that are called members at most.
        nonmembers, members: that have a score.
        found: members called so; the mean over students.
        attacks: of which this one was chosen, in the direction that it has.
    """

    accused: int
    nonmembers: int
    found: float
    members: int
    attacks: int

    @property
    def by_chance(self) -> float:
        """Members found on average by scores that say nothing, see `metrics.roc.chance_tpr`."""
        return self.members * (self.accused + 1) / (self.nonmembers + 1)

    @property
    def at_most_by_chance(self) -> int:
        """What the best of so many attacks, in either direction, finds in 95 % of cases where none says anything.

        How many of M members lie above the (k+1)-th highest of N non-members is beta-binomial with k + 1 and N − k.
        """
        law = betabinom(self.members, self.accused + 1, self.nonmembers - self.accused)
        return int(law.isf(0.05 / (2 * self.attacks)))

    @property
    def sentence(self) -> str:
        """``at 2 false accusations in 199 non-members, 29 of 199 members are found``"""
        accusations = f"{self.accused} false accusation{'s' if self.accused > 1 else ''}"
        return (
            f"at {accusations} in {self.nonmembers} non-members, {self.found:.0f} of {self.members} members are found"
        )


def caught(results: Sequence[AttackResult], sign: int, attacks: int) -> Caught:
    """Of one attack on each student, chosen among so many; a score whose members lie lower counts from below."""
    first = results[0]
    scored = ~np.isnan(first.scores)
    members, others = int((first.labels & scored).sum()), int((~first.labels & scored).sum())
    accused = max(1, others // 100)
    rates = [tpr_at_fpr(result.labels, sign * result.scores, accused / max(others, 1)) for result in results]
    return Caught(accused, others, float(np.mean(rates)) * members, members, attacks)
