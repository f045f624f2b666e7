"""Privacy at equal utility: each arm of a study against the trivial defences of its own perplexity.

A weaker model always leaks less, so that an arm leaks less than its teacher, or than its control, says little where its
perplexity is higher, too. What everybody can do without any intervention is to stop the vanilla student early, or to
train it on fewer texts (`results.roles.Frontier`). Each seed of an arm is held against both of its own seed, at the
arm's own held-out perplexity, on a line between the two vanilla students around it (`interpolation`). The arm leaks
less than a vanilla student only where it leaks less than *both* defences at that perplexity, so the reduction is the
smaller of the two:

- its lower limit is the smaller of the two lower limits: the smaller reduction is one of the two, and below its own
  lower limit in at most α/2;
- its upper limit is the smaller of the two upper ones, each at α/2 (Bonferroni: either may be too low).

The choice among attacks and the mean over seeds are treated as in `verdict`. A seed whose perplexity no vanilla student
of a defence reaches ends the comparison with that defence: nothing is extrapolated.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np

from midistill_tasks.compare import wording
from midistill_tasks.compare.frontier.interpolation import (
    Measured,
    Texts,
    at_utility_of,
    differences,
    front,
    measure,
    texts_of,
)
from midistill_tasks.compare.verdict import ALPHA, Reduction, StrongestReduction, can_be_compared, strongest_on
from midistill_tasks.compare.wording import FrontierWord
from midistill_tasks.metrics.estimate import Interval
from midistill_tasks.metrics.scored import FloatArray
from midistill_tasks.results.likelihoods import Heldout, read_heldout
from midistill_tasks.results.matching import comparable_results
from midistill_tasks.results.roles import Entry, Frontier, Group
from midistill_tasks.results.run import AttackResult, Run

UNKNOWN = Interval(math.nan, math.nan, math.nan)


class Against(NamedTuple):
    """An arm against the vanilla students of its perplexity.

    Attributes:
        split: that all were attacked on.
        arm: its name.
        seeds: that were compared; 0 where there was no comparison.
        defence: the one that leaks less at that perplexity: `wording.DEFENCES`; "" without a comparison.
        reduction: leak of the strongest attack on the vanilla student minus that on the arm, 95 %.
        word: the answer, on a page among all its answers.
        p: the smallest 1 − confidence at which it holds alone; 1 for undecided, NaN without a comparison.
        perplexity: of the arm, a byte (or word), the geometric mean over its seeds; NaN where it is not known.
        sentence: the answer in plain words.
    """

    split: str
    arm: str
    seeds: int
    defence: str
    reduction: Interval
    word: FrontierWord
    p: float
    perplexity: float
    sentence: str


class AtEqualUtility(StrongestReduction):
    """The reduction against one defence: `before` are the vanilla students of the arm's own perplexity, by seed."""

    def __init__(
        self, before: Sequence[Measured], after: Sequence[Measured], texts: Texts, variances: FloatArray
    ) -> None:
        """`variances`: the factor on the variance of each attack's AUROC, [A]."""
        number = range(len(variances))
        self.pairs = [[_Pair(before, after, (a, b), texts, max(variances[[a, b]])) for b in number] for a in number]
        leaks = [np.abs(np.mean([one.areas for one in side], axis=0) - 0.5).max() for side in (before, after)]
        self.value = float(leaks[0] - leaks[1])


class _Pair(Reduction):
    """One attack on the vanilla students against one on the arm."""

    def __init__(
        self,
        before: Sequence[Measured],
        after: Sequence[Measured],
        attacks: tuple[int, int],
        texts: Texts,
        variance: float,
    ) -> None:
        self.differences = [differences(before, after, attacks, texts, sign).times(variance) for sign in (1, -1)]
        self.bend = abs(float(np.mean([np.broadcast_to(one.bend, one.areas.shape)[attacks[0]] for one in before])))

    def at(self, alpha: float = ALPHA) -> Interval:
        """With limits at 1 − alpha for the texts and seeds, farther out by what the frontier may lie from its lines."""
        value, lower, upper = super().at(alpha)
        return Interval(value, lower - self.bend, upper + self.bend)


class LeastReduction(StrongestReduction):
    """The smaller of the reductions against several defences; see the module."""

    def __init__(self, defences: Sequence[StrongestReduction]) -> None:
        self.defences = defences
        self.value = min(one.value for one in defences)

    def at(self, alpha: float = ALPHA) -> Interval:
        """With limits at 1 − alpha."""
        lower = [one.at(alpha).lower for one in self.defences]
        upper = [one.at(alpha / len(self.defences)).upper for one in self.defences]
        return Interval(self.value, float(np.min(lower)), float(np.min(upper)))


def against_frontier(group: Group, split: str) -> tuple[Against, ...]:
    """Every arm of a study with a frontier, but the vanilla one.

    Raises:
        InputError: where runs were attacked on other texts or with other options.
    """
    frontier = group.frontier
    arms = [entry for entry in group.arms if frontier and entry.name in group.trained and entry.name != frontier.arm]
    attacked = [arm for arm in arms if all(run.on(split) for run in arm.runs)]
    return tuple(_against(frontier, group, arm, split) for arm in attacked if frontier)


class Seed(NamedTuple):
    """The students of one seed: the arm's, and those of each defence, by how much training each had."""

    student: Measured
    defences: Mapping[str, Sequence[Measured]]

    def twin(self, defence: str) -> Measured | None:
        """The vanilla student of its perplexity; None where the defence reaches none."""
        students = self.defences[defence]
        return at_utility_of(self.student, [students[number] for number in front([one.utility for one in students])])


Sides = tuple[Sequence[Mapping[str, AttackResult]], Sequence[Mapping[str, AttackResult]]]
"""Attack → result of each vanilla student of the whole training, and of each of the arm's."""


def _against(frontier: Frontier, group: Group, arm: Entry, split: str) -> Against:
    vanilla = next((entry.runs for entry in group.arms if entry.name == frontier.arm), ())
    whole = {_seed(frontier.arm, run): run for run in vanilla if run.on(split)}
    own = {seed: run for run in arm.runs if (seed := _seed(arm.name, run)) in whole and frontier.defences(seed)}
    students = {
        seed: {
            name: [*(run for run in runs if run.on(split)), whole[seed]]
            for name, runs in frontier.defences(seed).items()
        }
        for seed in own
    }
    runs = [run for seed in own for run in (own[seed], *chain.from_iterable(students[seed].values()))]
    runs = list({id(run): run for run in runs}.values())
    held = [read_heldout(run, split) for run in runs]
    if not runs or not _same(held):
        return _none(split, arm.name, wording.NO_SEED if not runs else wording.NO_HELDOUT)
    compared = comparable_results(runs, split)
    results = {id(run): result for run, result in zip(runs, compared, strict=True)}
    texts = texts_of(next(iter(compared[0].values())), next(each for each in held if each))
    measured = {
        id(run): measure(result, each, texts) for run, result, each in zip(runs, compared, held, strict=True) if each
    }
    seeds = [
        Seed(measured[id(run)], {name: [measured[id(one)] for one in of] for name, of in students[seed].items()})
        for seed, run in own.items()
    ]
    sides = [results[id(whole[seed])] for seed in own], [results[id(run)] for run in own.values()]
    return judge(arm.name, seeds, texts, sides)._replace(split=split)


def judge(arm: str, seeds: Sequence[Seed], texts: Texts, sides: Sides) -> Against:
    """The answer on an arm, but for the split's name."""
    perplexity = math.exp(float(np.mean([seed.student.utility for seed in seeds])))
    found, misses = _defences(seeds, texts, _variances(sides))
    if not found:
        why = wording.out_of_range(*min(misses, key=sum), len(seeds))
        return _none("", arm, why)._replace(perplexity=perplexity)
    reduction = LeastReduction(list(found.values()))
    before, after = (strongest_on("", side) for side in sides)
    said, p = "undecided", 1.0
    if can_be_compared(before, after):
        said, p = reduction.word()
    interval, defence = reduction.at(), min(found, key=lambda name: found[name].value)
    word: FrontierWord = "leaks less" if said == "safer" else NO_BETTER[defence] if said == "not safer" else "undecided"
    sentence = wording.against_frontier(arm, word, interval)
    return Against("", arm, len(seeds), defence, interval, word, p, perplexity, sentence)


NO_BETTER: Mapping[str, FrontierWord] = {
    "stopped": "no better than stopping early",
    "fewer": "no better than training on fewer texts",
}


def _defences(
    seeds: Sequence[Seed], texts: Texts, variances: FloatArray
) -> tuple[dict[str, AtEqualUtility], list[tuple[int, int]]]:
    """Those in whose range all seeds are; of the others how many seeds are weaker, and how many better than all."""
    found, misses = {}, []
    for name in dict.fromkeys(name for seed in seeds for name in seed.defences):
        has = [seed for seed in seeds if name in seed.defences]
        twins = [twin for seed in has if (twin := seed.twin(name)) is not None]
        if len(twins) == len(seeds):
            found[name] = AtEqualUtility(twins, [seed.student for seed in seeds], texts, variances)
        elif len(has) == len(seeds):
            weak = sum(seed.student.utility > max(one.utility for one in seed.defences[name]) for seed in seeds)
            misses.append((weak, len(seeds) - len(twins) - weak))
    return found, misses or [(0, 0)]


def _variances(sides: Sides) -> FloatArray:
    return np.array([max(run[name].variance for side in sides for run in side) for name in sides[1][0]])


def _none(split: str, arm: str, why: str) -> Against:
    sentence = wording.no_comparison(arm, why)
    return Against(split, arm, 0, "", UNKNOWN, "no comparison", math.nan, math.nan, sentence)


def _same(held: Sequence[Heldout | None]) -> bool:
    """Whether all are there and of the same texts and unit."""
    return None not in held and len({(frozenset(each.ids), each.unit) for each in held if each}) == 1


def _seed(name: str, run: Run) -> str:
    """In a study a run is named after its arm and seed."""
    return run.model.removeprefix(f"{name}, seed ")
